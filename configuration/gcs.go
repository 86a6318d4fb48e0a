package configuration

import (
	"encoding/json"
	"net/url"
	"strings"

	"berth/configuration/strict"
)

// GCS is the section storage.gcs.
type GCS struct {
	// The bucket. It must be given, and be there.
	Bucket string `yaml:"bucket" example:"registry"`
	// The path of a file of credentials, or the JSON that is in such a file: a service account key, or the configuration of a
	// workload identity federation. Without it, credentials are found as the tools of Google find them:
	// GOOGLE_APPLICATION_CREDENTIALS, those of gcloud, or the service account of the machine or the workload.
	KeyFile Secret `yaml:"keyfile" example:"/etc/berth/gcs.json"`
	// A service account key, key by key, in place of `keyfile`.
	Credentials *GCSCredentials `yaml:"credentials"`
	// Asks without any credentials, as emulators take it.
	Anonymous bool `yaml:"anonymous" default:"false"`
	// The service account in whose name URLs are signed, by IAM, where the credentials have no private key and do not name it.
	ServiceAccount string `yaml:"serviceaccount" example:"berth@project.iam.gserviceaccount.com"`
	// The project that pays for requests, if the bucket wants those who ask to pay.
	ProjectID string `yaml:"projectid" example:"my-project"`
	// The key of Cloud KMS by which objects are encrypted. Without it, it is that of the bucket.
	KeyID string `yaml:"keyid" example:"projects/p/locations/l/keyRings/r/cryptoKeys/k"`
	// A folder of the bucket, in which everything is kept.
	RootDirectory string `yaml:"rootdirectory" example:"/registry"`
	// The size of the pieces in which large objects go up, a multiple of 256 KiB. An upload takes up to two of them of memory.
	ChunkSize Size `yaml:"chunksize" default:"8MiB" min:"256KiB"`
	// The URL of an emulator, or of a private way to the service.
	Endpoint string `yaml:"endpoint" example:"https://storage-xyz.p.googleapis.com"`
	// Trusts any certificate of the service.
	SkipVerify bool `yaml:"skipverify" default:"false"`
	// A PEM file of the authorities to trust instead of those of the system.
	RootCA string `yaml:"rootca" example:"/etc/berth/gcs-ca.pem"`
	// The URL of a proxy to the service. Without it the variables HTTPS_PROXY, HTTP_PROXY and NO_PROXY are followed.
	Proxy Secret `yaml:"proxy" example:"http://proxy.example.com:3128"`
	// What Berth calls itself to the service.
	UserAgent string `yaml:"useragent" example:"team-a"`
}

// GCSCredentials is the section storage.gcs.credentials: a service account key as Google writes it.
type GCSCredentials struct {
	// The kind of credentials.
	Type string `yaml:"type" default:"service_account" enum:"service_account" json:"type"`
	// The email address of the service account. It must be given.
	ClientEmail string `yaml:"client_email" example:"berth@project.iam.gserviceaccount.com" json:"client_email"`
	// The private key, in PEM. It must be given.
	PrivateKey Secret `yaml:"private_key" example:"a PEM block" json:"-"`
	// The id of the private key.
	PrivateKeyID string `yaml:"private_key_id" example:"8e6d70c1" json:"private_key_id,omitempty"`
	// The project of the service account.
	ProjectID string `yaml:"project_id" example:"my-project" json:"project_id,omitempty"`
	// The number of the service account.
	ClientID string `yaml:"client_id" example:"1234567890" json:"client_id,omitempty"`
	// Where people log in; not used.
	AuthURI string `yaml:"auth_uri" example:"https://accounts.google.com/o/oauth2/auth" json:"auth_uri,omitempty"`
	// Where tokens are asked for.
	TokenURI string `yaml:"token_uri" example:"https://oauth2.googleapis.com/token" json:"token_uri,omitempty"`
	// Where certificates of the provider are; not used.
	ProviderCertURL string `yaml:"auth_provider_x509_cert_url" example:"https://www.googleapis.com/oauth2/v1/certs" json:"auth_provider_x509_cert_url,omitempty"`
	// Where certificates of the service account are; not used.
	ClientCertURL string `yaml:"client_x509_cert_url" example:"https://www.googleapis.com/robot/v1/metadata/x509/berth" json:"client_x509_cert_url,omitempty"`
	// The cloud that the key is for.
	UniverseDomain string `yaml:"universe_domain" example:"googleapis.com" json:"universe_domain,omitempty"`
}

// KeyPath returns the path of the file of credentials, "" if there is none.
func (g GCS) KeyPath() string {
	if isJSON(g.KeyFile.Reveal()) {
		return ""
	}
	return g.KeyFile.Reveal()
}

// KeyJSON returns the text of the credentials, "" if it is not in the configuration.
func (g GCS) KeyJSON() string {
	if isJSON(g.KeyFile.Reveal()) {
		return g.KeyFile.Reveal()
	}
	if g.Credentials == nil || g.KeyPath() != "" {
		return ""
	}
	text, _ := json.Marshal(struct { // of texts, which cannot fail
		GCSCredentials
		PrivateKey string `json:"private_key"`
	}{*g.Credentials, g.Credentials.PrivateKey.Reveal()})
	return string(text)
}

func isJSON(text string) bool { return strings.HasPrefix(strings.TrimSpace(text), "{") }

// Origin returns the URL of the service, "" for Google's.
func (g GCS) Origin() string { return strings.TrimSuffix(g.Endpoint, "/") }

// Folder returns what comes before the keys of objects, without slashes at its ends.
func (g GCS) Folder() string { return strings.Trim(g.RootDirectory, "/") }

// chunkUnit is what the service takes whole numbers of.
const chunkUnit = 256 << 10

func (g GCS) check(c strict.Checking) {
	if g.Bucket == "" {
		c.Fail("bucket", "must be given")
	}
	if g.ChunkSize%chunkUnit != 0 {
		c.Fail("chunksize", "must be a multiple of 256 KiB, such as 8MiB")
	}
	if !isFolder(g.Folder()) {
		c.Fail("rootdirectory", "must be a folder of at most %d bytes of ASCII, not %s", maxFolder, strict.Quote(g.RootDirectory))
	}
	if g.Endpoint != "" && !isOrigin(g.Origin()) {
		c.Fail("endpoint", "must be a URL of scheme and host such as https://storage.example.com, not %s", strict.Quote(g.Endpoint))
	}
	if u, err := url.Parse(g.Proxy.Reveal()); err != nil || g.Proxy.Reveal() != "" && u.Host == "" {
		c.Fail("proxy", "must be a URL such as http://proxy.example.com:3128")
	}
	g.checkCredentials(c)
}

func (g GCS) checkCredentials(c strict.Checking) {
	keyFile := g.KeyFile.Reveal()
	switch {
	case g.Anonymous && (keyFile != "" || g.Credentials != nil):
		c.Fail("anonymous", "contradicts keyfile and credentials; keep one")
	case keyFile != "" && g.Credentials != nil:
		c.Warn("credentials", "ignored, since there is a keyfile")
	case isJSON(keyFile) && !json.Valid([]byte(keyFile)):
		c.Fail("keyfile", "is no JSON; a path may be given, too")
	}
}

func (g GCSCredentials) check(c strict.Checking) {
	if g.ClientEmail == "" {
		c.Fail("client_email", "must be given")
	}
	if g.PrivateKey.Reveal() == "" {
		c.Fail("private_key", "must be given")
	}
}
