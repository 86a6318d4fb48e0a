// Package s3 holds the driver of that name against the specification of drivers, over a server of S3 that is a process of
// its own, on HTTP and on HTTPS.
package s3

import (
	"fmt"
	"sync/atomic"
	"testing"

	"berth/storage"
	"berth/storage/s3"
	"berth/storage/storagetest"
	"berth/tests/harness"
)

var roots atomic.Int64

// options are those of a driver in a folder of the bucket that nobody has used.
func options(server *harness.S3) s3.Options {
	return s3.Options{
		Bucket: server.Bucket, Region: server.Region, Endpoint: server.Endpoint, Root: fmt.Sprintf("root%d", roots.Add(1)),
		Credentials: s3.Credentials{AccessKey: server.AccessKey, SecretKey: server.SecretKey}, TLS: s3.TLS{CA: server.CA},
		PathStyle: true, PartSize: 5 << 20,
	}
}

// open returns a driver that lives as long as a test.
func open(t *testing.T, o s3.Options) *s3.Driver {
	t.Helper()
	d, err := s3.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestSuite(t *testing.T) {
	for name, secure := range map[string]bool{"http": false, "https": true} {
		t.Run(name, func(t *testing.T) {
			server := harness.StartS3(t, secure)
			storagetest.Test(t, func(t *testing.T) storage.Driver { return open(t, options(server)) })
		})
	}
}
