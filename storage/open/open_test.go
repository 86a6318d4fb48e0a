package open

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"berth/configuration"
	"berth/storage"
	"berth/storage/cached"
	"berth/storage/measured"
)

func TestOpen(t *testing.T) {
	for _, test := range []struct {
		yaml      string
		exclusive bool
		cached    bool
	}{
		{"inmemory", true, false},
		{"{filesystem: {rootdirectory: %s}}", true, true},
		{"{filesystem: {rootdirectory: %s}, cache: {size: 0}}", true, false},
		{"{filesystem: {rootdirectory: %s, shared: true}}", false, false},
		{"{filesystem: {rootdirectory: %s, shared: true}, cache: {size: 0}}", false, false},
		{"{emptydir: {rootdirectory: %s}}", true, true},
	} {
		text := strings.ReplaceAll(test.yaml, "%s", filepath.Join(t.TempDir(), "root"))
		c, _, err := configuration.Parse("test", fmt.Appendf(nil, "version: 0.1\nstorage: %s\n", text), nil)
		if err != nil {
			t.Fatal(err)
		}
		var calls, looks int
		store, err := Open(t.Context(), c.Storage, Options{
			Calls: func(measured.Call) { calls++ }, Cache: func(string, bool) { looks++ },
			Stable: func(string) bool { return true }, Epoch: "config/epoch",
		})
		if err != nil {
			t.Errorf("%s: %v", test.yaml, err)
			continue
		}
		d := store.Driver
		_, isCached := storage.As[*cached.Driver](d)
		if _, shared := storage.As[*cached.Shared](d); store.Exclusive != test.exclusive || isCached != test.cached || shared == test.exclusive {
			t.Errorf("%s: exclusive is %t, cached %t, shared %t", test.yaml, store.Exclusive, isCached, shared)
		}
		if (store.Reads == d) != test.exclusive {
			t.Errorf("%s: reads go elsewhere: %t", test.yaml, store.Reads != d)
		}
		if _, err := d.Put(t.Context(), "config/x", strings.NewReader("x"), 1, storage.Absent()); err != nil {
			t.Errorf("%s: %v", test.yaml, err)
		}
		if _, err := d.Stat(t.Context(), "config/x"); err != nil || (looks > 0) != test.cached || (calls == 1) != test.cached {
			t.Errorf("%s: %v; %d calls and %d looks into the cache were reported", test.yaml, err, calls, looks)
		}
		if err := store.Close(); err != nil {
			t.Errorf("%s: close: %v", test.yaml, err)
		}
	}
	if _, err := Open(t.Context(), configuration.Storage{}, Options{}); err == nil {
		t.Error("no storage is no error")
	}
}
