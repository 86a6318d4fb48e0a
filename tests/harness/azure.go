package harness

import (
	"crypto/tls"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
)

// An Azure is a server of Azure Blob Storage with one account and one container: Azurite, in memory.
type Azure struct {
	Endpoint, Account, Key, Container string
	CA                                string // the file of the authority of an https endpoint
}

var azurite = Script{"azurite", "3.37.0", "dist/src/blob/main.js"}

// azuriteKey is public: the documentation of the emulator has it.
const azuriteKey = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

// StartAzure runs a server of Azure Blob Storage until the test ends. On HTTPS it takes tokens, too.
func StartAzure(t testing.TB, secure bool) *Azure {
	t.Helper()
	dir, addr := t.TempDir(), FreeAddr(t)
	host, port, _ := net.SplitHostPort(addr)
	a := &Azure{Endpoint: "http://" + addr + "/devstoreaccount1", Account: "devstoreaccount1", Key: azuriteKey, Container: "registry"}
	args := []string{azurite.Path(t), "--blobHost", host, "--blobPort", port, "--silent", "--disableTelemetry", "--skipApiVersionCheck",
		"--inMemoryPersistence"}
	if secure {
		a.Endpoint, a.CA = "https://"+addr+"/devstoreaccount1", filepath.Join(dir, "tls.crt")
		args = append(args, "--cert", a.CA, "--key", filepath.Join(dir, "tls.key"), "--oauth", "basic")
		if err := SelfSigned(a.CA, filepath.Join(dir, "tls.key")); err != nil {
			t.Fatal(err)
		}
	}
	Run(t, nil, "node", args...)
	WaitForListener(t, addr)
	a.createContainer(t)
	return a
}

// createContainer makes the container.
func (a *Azure) createContainer(t testing.TB) {
	t.Helper()
	key, err := azblob.NewSharedKeyCredential(a.Account, a.Key)
	if err != nil {
		t.Fatal(err)
	}
	options := &azblob.ClientOptions{}
	options.Transport = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	client, err := azblob.NewClientWithSharedKeyCredential(a.Endpoint, key, options)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CreateContainer(t.Context(), a.Container, nil); err != nil {
		t.Fatal(err)
	}
}

// Env is the configuration of a registry in the container, below a folder of it.
func (a *Azure) Env(root string) []string {
	return []string{
		"REGISTRY_STORAGE_AZURE_SERVICEURL=" + a.Endpoint, "REGISTRY_STORAGE_AZURE_ACCOUNTNAME=" + a.Account, "REGISTRY_STORAGE_AZURE_ACCOUNTKEY=" + a.Key,
		"REGISTRY_STORAGE_AZURE_CONTAINER=" + a.Container, "REGISTRY_STORAGE_AZURE_ROOTCA=" + a.CA, "REGISTRY_STORAGE_AZURE_ROOTDIRECTORY=" + root,
	}
}
