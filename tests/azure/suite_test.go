// Package azure holds the driver of that name against the specification of drivers, over the emulator of Azure Blob Storage, on
// HTTP with the key of the account and on HTTPS with tokens, too.
package azure

import (
	"fmt"
	"sync/atomic"
	"testing"

	"berth/storage"
	"berth/storage/azure"
	"berth/storage/storagetest"
	"berth/tests/harness"
)

var roots atomic.Int64

// options are those of a driver in a folder of the container that nobody has used.
func options(server *harness.Azure) azure.Options {
	return azure.Options{
		Account: server.Account, Container: server.Container, Endpoint: server.Endpoint, Root: fmt.Sprintf("root%d", roots.Add(1)),
		Credentials: azure.Credentials{Key: server.Key}, TLS: azure.TLS{CA: server.CA}, PartSize: 5 << 20,
	}
}

// open returns a driver that lives as long as a test.
func open(t *testing.T, o azure.Options) *azure.Driver {
	t.Helper()
	d, err := azure.Open(t.Context(), o)
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
			server := harness.StartAzure(t, secure)
			storagetest.Test(t, func(t *testing.T) storage.Driver { return open(t, options(server)) })
		})
	}
}
