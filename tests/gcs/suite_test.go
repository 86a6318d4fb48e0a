// Package gcs holds the driver of that name against the specification of drivers, over an emulator that is a process of its own.
package gcs

import (
	"fmt"
	"sync/atomic"
	"testing"

	"berth/storage"
	"berth/storage/gcs"
	"berth/storage/storagetest"
	"berth/tests/harness"
)

var roots atomic.Int64

func TestSuite(t *testing.T) {
	server := harness.StartGCS(t)
	storagetest.Test(t, func(t *testing.T) storage.Driver {
		d, err := gcs.Open(t.Context(), gcs.Options{
			Bucket: server.Bucket, Endpoint: server.Endpoint, Root: fmt.Sprintf("root%d", roots.Add(1)), ChunkSize: 1 << 20,
			Credentials: gcs.Credentials{Anonymous: true},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
		return d
	})
}
