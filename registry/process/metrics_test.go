package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"
	"testing"

	"berth/metrics"
	"berth/registry"
	"berth/storage"
	"berth/storage/measured"
)

func TestStoreError(t *testing.T) {
	for _, test := range []struct {
		err  error
		want metrics.StoreError
	}{
		{nil, metrics.NoError}, {storage.ErrConflict, metrics.NoError}, {context.Canceled, metrics.NoError},
		{&registry.BodyError{Err: io.ErrUnexpectedEOF}, metrics.NoError},
		{&fs.PathError{Err: fs.ErrNotExist}, metrics.NotFound}, {storage.ErrInvalidKey, metrics.InvalidKey},
		{storage.ErrReadOnly, metrics.ReadOnlyFilesystem}, {storage.ErrNoSpace, metrics.NoSpace}, {syscall.EFBIG, metrics.FileTooLarge},
		{storage.ErrUnavailable, metrics.StoreUnavailable}, {errors.New("x"), metrics.UnknownError},
	} {
		if got := storeError(test.err); got != test.want {
			t.Errorf("%v is %d, want %d", test.err, got, test.want)
		}
		if got := storeError(fmt.Errorf("put a: %w", test.err)); test.err != nil && got != test.want {
			t.Errorf("a wrapped %v is %d, want %d", test.err, got, test.want)
		}
	}
}

func TestStoreCall(t *testing.T) {
	const data, tag = "data/20260101/x", "repositories/a/_tags/v1"
	for _, test := range []struct {
		operation measured.Operation
		key       string
		want      metrics.StoreCall
	}{
		{measured.Open, data, metrics.ReadData}, {measured.Open, tag, metrics.ReadRecord}, {measured.Put, data, metrics.WriteData},
		{measured.Put, tag, metrics.WriteRecord}, {measured.Stat, data, metrics.Stat}, {measured.Delete, data, metrics.Remove},
		{measured.List, "data/", metrics.List},
	} {
		if got := storeCall(measured.Call{Operation: test.operation, Key: test.key}); got != test.want {
			t.Errorf("%d of %s is %d, want %d", test.operation, test.key, got, test.want)
		}
	}
}

func TestRecordOf(t *testing.T) {
	for key, want := range map[string]metrics.Record{
		"blobs/sha256/aa/aabb": metrics.BlobRecord, "repositories/a/_blobs/sha256/x": metrics.LinkRecord,
		"repositories/a/_manifests/sha256/x": metrics.ManifestRecord, "repositories/a/_tags/v1": metrics.TagRecord,
		"repositories/a/_referrers/sha256/x/0": metrics.ReferrersRecord, "catalog/a!": metrics.CatalogRecord,
		"uploads/x": metrics.UploadRecord, "repositories/a/_tags/": metrics.Listing, "config/secret": metrics.OtherRecord,
	} {
		if got := recordOf(key); got != want {
			t.Errorf("%s is %d, want %d", key, got, want)
		}
	}
}
