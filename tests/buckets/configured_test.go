package buckets

import (
	"context"
	"crypto/rand"
	"flag"
	"os"
	"path"
	"strings"
	"testing"

	"berth/configuration"
	"berth/storage"
	"berth/storage/open"
)

var store = flag.String("store", "", "the driver of a service that is not ours (s3, gcs or azure), configured as Berth is by REGISTRY_STORAGE_* variables")

// run is the folder that nobody else uses, below that of the configuration.
var run = "berth-suite-" + strings.ToLower(rand.Text()[:10])

// configured opens what the environment configures, in folders that are emptied at the end of each test.
func configured(t *testing.T) opener {
	t.Logf("everything is kept below %s of the configured folder, and removed", run)
	return func(t *testing.T, n network) storage.Driver {
		if n != nil {
			t.Skip("what is configured cannot be reached by another network")
		}
		s, err := open.Open(t.Context(), parsed(t), open.Options{Warn: func(text string) { t.Log(text) }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			empty(t, s.Driver)
			must(t, s.Close())
		})
		return s.Driver
	}
}

// parsed is the configuration, with a folder that nobody has used, and nothing in memory.
func parsed(t *testing.T) configuration.Storage {
	t.Helper()
	prefix := "REGISTRY_STORAGE_" + strings.ToUpper(*store)
	folder := path.Join(os.Getenv(prefix+"_ROOTDIRECTORY"), run, root())
	environ := append(os.Environ(), prefix+"_ROOTDIRECTORY=/"+strings.Trim(folder, "/"), "REGISTRY_STORAGE_CACHE_SIZE=0")
	c, _, err := configuration.Parse("-store", []byte("version: 0.1\nstorage: {"+*store+": {}}\n"), environ)
	if err != nil {
		t.Fatal(err)
	}
	return c.Storage
}

// empty removes all that a test has left.
func empty(t *testing.T, d storage.Driver) {
	ctx := context.WithoutCancel(t.Context())
	var keys []string
	for info, err := range d.List(ctx, "", "") {
		if err != nil {
			t.Errorf("list what is left: %v", err)
			return
		}
		keys = append(keys, info.Key)
	}
	if err := storage.DeleteAll(ctx, d, keys...); err != nil {
		t.Errorf("remove what is left: %v", err)
	}
}
