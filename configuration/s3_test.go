package configuration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const bucket = "version: 0.1\nstorage: {s3: {bucket: b, region: r, accesskey: AK, secretkey: SK}}\n"

func TestS3(t *testing.T) {
	c := mustParse(t, bucket, "REGISTRY_STORAGE_S3_REGIONENDPOINT=minio:9000", "REGISTRY_STORAGE_S3_SECURE=false", "REGISTRY_STORAGE_S3_ROOTDIRECTORY=/a/b/")
	s := c.Storage.S3
	if c.Storage.Driver() != "s3" || s.Endpoint() != "http://minio:9000" || s.Folder() != "a/b" || s.ChunkSize != 10<<20 || s.SecretKey.Reveal() != "SK" {
		t.Errorf("%+v", *s)
	}
	if text := fmt.Sprintf("%+v", *s); strings.Contains(text, "SK") || strings.Contains(text, "AK") {
		t.Errorf("the keys are printed: %s", text)
	}
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("from-a-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c = mustParse(t, "version: 0.1\nstorage: filesystem\n", "REGISTRY_STORAGE=s3", "REGISTRY_STORAGE_S3_BUCKET=b", "REGISTRY_STORAGE_S3_REGION=r",
		"REGISTRY_STORAGE_S3_ACCESSKEY=AK", "REGISTRY_STORAGE_S3_SECRETKEY_FILE="+file)
	if c.Storage.S3 == nil || c.Storage.S3.SecretKey.Reveal() != "from-a-file" {
		t.Errorf("storage is %+v", c.Storage)
	}
	for _, of := range []string{"S3", "S3AWS"} {
		c = mustParse(t, "version: 0.1\nstorage: inmemory\n", "REGISTRY_STORAGE=s3aws", "REGISTRY_STORAGE_"+of+"_BUCKET=b", "REGISTRY_STORAGE_"+of+"_REGION=r")
		if c.Storage.S3 == nil || c.Storage.S3.Bucket != "b" || c.Storage.InMemory != nil {
			t.Errorf("REGISTRY_STORAGE=s3aws with %s is not storage.s3: %+v", of, c.Storage)
		}
	}
	if c = mustParse(t, strings.Replace(bucket, "s3:", "s3aws:", 1)); c.Storage.S3 == nil || c.Storage.S3.Bucket != "b" {
		t.Errorf("storage.s3aws is not storage.s3: %+v", c.Storage)
	}
}

func TestS3Refusals(t *testing.T) {
	for change, want := range map[string]string{
		"bucket: ''":                         "storage.s3.bucket: must be given",
		"region: ''":                         "storage.s3.region: must be given",
		"chunksize: 1MiB":                    "storage.s3.chunksize",
		"secretkey: ''":                      "storage.s3.secretkey: must be given",
		"regionendpoint: 'http://host/path'": "storage.s3.regionendpoint: must be a URL",
		"checksums: sometimes":               "storage.s3.checksums",
		"conditionaldelete: perhaps":         "storage.s3.conditionaldelete",
		"objectacl: public-read":             "storage.s3.objectacl",
		"v4auth: false":                      "storage.s3.v4auth",
		"proxy: '::'":                        "storage.s3.proxy",
		"rootdirectory: 'a//b'":              "storage.s3.rootdirectory",
		"buckte: x":                          "nearest is storage.s3.bucket",
		"forcepathstyle: true, virtualhostedstyle: 1": "storage.s3.virtualhostedstyle",
		"cloudfront: {baseurl: 'https://d.test'}":     "storage.s3.cloudfront.privatekey",
	} {
		key, _, _ := strings.Cut(change, ":")
		others := map[string]string{"bucket": "bucket: b, ", "region": "region: r, ", "secretkey": "secretkey: SK, "}
		delete(others, key)
		text := "version: 0.1\nstorage: {s3: {accesskey: AK, " + others["bucket"] + others["region"] + others["secretkey"] + change + "}}\n"
		if _, _, err := Parse("c.yml", []byte(text), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", change, err, want)
		}
	}
}

// TestCloudFrontMiddleware reads the section of distribution.
func TestCloudFrontMiddleware(t *testing.T) {
	const middleware = "middleware: {storage: [{name: cloudfront, options: {baseurl: 'https://d.test', privatekey: /k, keypairid: K, duration: 3000s}}]}\n"
	c := mustParse(t, bucket+middleware)
	if f := c.Storage.S3.CloudFront; f == nil || f.BaseURL != "https://d.test" || f.KeyPairID != "K" || f.Duration.Seconds() != 3000 {
		t.Errorf("cloudfront is %+v", f)
	}
	_, _, err := Parse("c.yml", []byte(strings.Replace(bucket, "bucket: b", "bucket: b, cloudfront: {baseurl: 'https://e.test', privatekey: /k, keypairid: K}", 1)+middleware), nil)
	if err == nil || !strings.Contains(err.Error(), "middleware.storage") {
		t.Errorf("both places: %v", err)
	}
}

func TestReplicas(t *testing.T) {
	for section, ok := range map[string]bool{
		"inmemory: {}, replicas: 2": false, "emptydir: {}, replicas: 2": false, "filesystem: {}, replicas: 2": false,
		"filesystem: {shared: true}, replicas: 2": true, "emptydir: {}, replicas: 1": true,
	} {
		_, _, err := Parse("c.yml", []byte("version: 0.1\nstorage: {"+section+"}\n"), nil)
		if (err == nil) != ok {
			t.Errorf("%s: %v", section, err)
		}
	}
}
