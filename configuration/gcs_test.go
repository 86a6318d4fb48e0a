package configuration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestGCS(t *testing.T) {
	c := mustParse(t, "version: 0.1\nstorage: {gcs: {bucket: b, keyfile: /k.json, rootdirectory: /a/b/, endpoint: 'http://host:1/'}}\n")
	g := c.Storage.GCS
	if c.Storage.Driver() != "gcs" || g.KeyPath() != "/k.json" || g.KeyJSON() != "" || g.Folder() != "a/b" || g.Origin() != "http://host:1" || g.ChunkSize != 8<<20 {
		t.Errorf("%+v", *g)
	}
	const content = `{"type": "service_account", "private_key": "very secret"}`
	c = mustParse(t, "version: 0.1\nstorage: filesystem\n", "REGISTRY_STORAGE=gcs", "REGISTRY_STORAGE_GCS_BUCKET=b", "REGISTRY_STORAGE_GCS_KEYFILE="+content)
	if g = c.Storage.GCS; g == nil || g.KeyPath() != "" || g.KeyJSON() != content || strings.Contains(fmt.Sprintf("%+v", *g), "secret") {
		t.Errorf("the content of a keyfile: %+v", g)
	}
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(content+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c = mustParse(t, "version: 0.1\nstorage: {gcs: {bucket: b}}\n", "REGISTRY_STORAGE_GCS_KEYFILE_FILE="+file)
	if got := c.Storage.GCS.KeyJSON(); got != content {
		t.Errorf("the content of a keyfile from a file: %q", got)
	}
}

// TestGCSCredentials writes a service account key as distribution has it.
func TestGCSCredentials(t *testing.T) {
	c := mustParse(t, "version: 0.1\nstorage: {gcs: {bucket: b, maxconcurrency: 50, credentials: {type: service_account, client_email: a@b, private_key: very secret, token_uri: 'https://t'}}}\n")
	var got map[string]string
	if err := json.Unmarshal([]byte(c.Storage.GCS.KeyJSON()), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"type": "service_account", "client_email": "a@b", "private_key": "very secret", "token_uri": "https://t"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the credentials are %v, not %v", got, want)
	}
	if strings.Contains(fmt.Sprintf("%+v", c.Storage.GCS.Credentials), "secret") {
		t.Error("the private key is printed")
	}
	c = mustParse(t, "version: 0.1\nstorage: {gcs: {bucket: b}}\n", "REGISTRY_STORAGE_GCS_CREDENTIALS_CLIENT_EMAIL=a@b", "REGISTRY_STORAGE_GCS_CREDENTIALS_PRIVATE_KEY=very secret")
	if g := c.Storage.GCS; g.Credentials == nil || g.Credentials.ClientEmail != "a@b" || g.Credentials.PrivateKey.Reveal() != "very secret" {
		t.Errorf("the credentials are %+v", g.Credentials)
	}
}

func TestGCSRefusals(t *testing.T) {
	for change, want := range map[string]string{
		"bucket: ''":                            "storage.gcs.bucket: must be given",
		"chunksize: 300KiB":                     "storage.gcs.chunksize: must be a multiple",
		"chunksize: 1KiB":                       "storage.gcs.chunksize",
		"endpoint: 'http://host/path'":          "storage.gcs.endpoint: must be a URL",
		"proxy: '::'":                           "storage.gcs.proxy",
		"rootdirectory: 'a//b'":                 "storage.gcs.rootdirectory",
		"keyfile: '{very secret'":               "storage.gcs.keyfile: is no JSON",
		"anonymous: true, keyfile: /k":          "storage.gcs.anonymous",
		"credentials: {client_email: a@b}":      "storage.gcs.credentials.private_key: must be given",
		"credentials: {type: external_account}": "storage.gcs.credentials.type",
		"buckte: x":                             "nearest is storage.gcs.bucket",
	} {
		others := "bucket: b, "
		if strings.HasPrefix(change, "bucket:") {
			others = ""
		}
		_, _, err := Parse("c.yml", []byte("version: 0.1\nstorage: {gcs: {"+others+change+"}}\n"), nil)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "very secret") {
			t.Errorf("%s: %v, want %s", change, err, want)
		}
	}
}
