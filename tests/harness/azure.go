package harness

import (
	"crypto/tls"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

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
	dir, addr := t.TempDir(), freeAddr(t)
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
	cmd := exec.Command("node", args...)
	cmd.Dir = dir
	var log logBuffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // nothing of it is kept
		_ = cmd.Wait()
		if t.Failed() {
			end := log.String()
			t.Logf("the end of the log of the server of Azure:\n%s", end[max(0, len(end)-2000):])
		}
	})
	a.createContainer(t, addr)
	return a
}

// createContainer waits for the server, and makes the container.
func (a *Azure) createContainer(t testing.TB, addr string) {
	t.Helper()
	for deadline := time.Now().Add(startLimit); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server of Azure does not listen: %v", err)
		}
	}
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
