package configuration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const account = "version: 0.1\nstorage: {azure: {accountname: registry, accountkey: a2V5, container: images}}\n"

func TestAzure(t *testing.T) {
	a := mustParse(t, account).Storage.Azure
	if a == nil || a.AccountName != "registry" || a.AccountKey.Reveal() != "a2V5" || a.Realm != "core.windows.net" || a.ChunkSize != 10<<20 || a.UploadConcurrency != 8 || a.Kind() != "" {
		t.Errorf("storage.azure is %+v", a)
	}
	if text := fmt.Sprintf("%+v", *a); strings.Contains(text, "a2V5") {
		t.Errorf("the key is printed: %s", text)
	}
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("from-a-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// As the operator of OpenShift sets them, and those of distribution 3.
	c := mustParse(t, "version: 0.1\nstorage: filesystem\n", "REGISTRY_STORAGE=azure", "REGISTRY_STORAGE_AZURE_CONTAINER=images",
		"REGISTRY_STORAGE_AZURE_ACCOUNTNAME=registry", "REGISTRY_STORAGE_AZURE_REALM=core.usgovcloudapi.net", "REGISTRY_STORAGE_AZURE_MAX_RETRIES=3",
		"REGISTRY_STORAGE_AZURE_CREDENTIALS_TYPE=client_secret", "REGISTRY_STORAGE_AZURE_CREDENTIALS_CLIENTID=C",
		"REGISTRY_STORAGE_AZURE_CREDENTIALS_TENANTID=T", "REGISTRY_STORAGE_AZURE_CREDENTIALS_SECRET_FILE="+file)
	if a = c.Storage.Azure; a == nil || a.Kind() != "client_secret" || a.Credentials.Secret.Reveal() != "from-a-file" || a.Realm != "core.usgovcloudapi.net" {
		t.Errorf("storage is %+v", c.Storage)
	}
	if c.Storage.Driver() != "azure" {
		t.Errorf("the driver is %q", c.Storage.Driver())
	}
}

func TestAzureRefusals(t *testing.T) {
	for change, want := range map[string]string{
		"accountname: ''":                                 "storage.azure.accountname: must be given",
		"accountname: Registry":                           "storage.azure.accountname: must be 3 to 24",
		"container: ''":                                   "storage.azure.container: must be given",
		"container: a--b":                                 "storage.azure.container: must be 3 to 63",
		"realm: 'https://x'":                              "storage.azure.realm",
		"serviceurl: here":                                "storage.azure.serviceurl: must be a URL",
		"chunksize: 1KiB":                                 "storage.azure.chunksize",
		"rootdirectory: 'a//b'":                           "storage.azure.rootdirectory",
		"acountname: x":                                   "nearest is storage.azure.accountname",
		"credentials: {type: magic}":                      "storage.azure.credentials.type",
		"credentials: {type: client_secret}":              "storage.azure.credentials.secret: must be given",
		"accountkey: '', serviceurl: 'http://h'":          "storage.azure.serviceurl: must be https",
		"accountkey: '', credentials: {type: shared_key}": "storage.azure.accountkey: must be given",
	} {
		key, _, _ := strings.Cut(change, ":")
		others := map[string]string{"accountname": "accountname: registry, ", "container": "container: images, ", "accountkey": "accountkey: a2V5, "}
		delete(others, key)
		text := "version: 0.1\nstorage: {azure: {" + others["accountname"] + others["container"] + others["accountkey"] + change + "}}\n"
		if _, _, err := Parse("c.yml", []byte(text), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", change, err, want)
		}
	}
}
