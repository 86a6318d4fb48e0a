package gcs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/auth/credentials"
	"cloud.google.com/go/auth/httptransport"
	gcs "cloud.google.com/go/storage"
	"google.golang.org/api/option"

	"berth/storage/remote"
)

// Credentials say who asks. Without any they are found as Google's tools do: a file that GOOGLE_APPLICATION_CREDENTIALS names,
// that of gcloud, or the service account of the machine or the workload.
type Credentials struct {
	File      string // of a key, or of a configuration of workload identity federation
	JSON      string // the content of such a file
	Anonymous bool   // nobody, as for an emulator
	// Account is the email address of the service account in whose name URLs are signed, where the credentials do not say.
	Account string
}

// scopes are what tokens are good for: objects, and the signing of URLs.
var scopes = []string{"https://www.googleapis.com/auth/devstorage.read_write", "https://www.googleapis.com/auth/iam"}

// An access is how requests are sent, and in whose name.
type access struct {
	client *http.Client // adds who asks
	creds  *auth.Credentials
	key    keyFile
}

// A keyFile is what the driver itself reads of credentials.
type keyFile struct {
	Type          string `json:"type"`
	Email         string `json:"client_email"`
	PrivateKey    string `json:"private_key"`
	Impersonation string `json:"service_account_impersonation_url"`
}

// newAccess finds the credentials; it asks for no token yet.
func newAccess(ctx context.Context, o Options) (access, error) {
	plain, err := network(o, false)
	if err != nil {
		return access{}, err
	}
	client, err := network(o, true)
	if err != nil || o.Credentials.Anonymous {
		return access{client: client}, err
	}
	text, err := o.Credentials.content()
	if err != nil {
		return access{}, err
	}
	a := access{client: client}
	a.creds, err = detect(&credentials.DetectOptions{Scopes: scopes, Client: plain}, text)
	if err != nil && ctx.Err() == nil {
		return access{}, fmt.Errorf("%s: %w", o.Credentials.whichKey(), err)
	}
	if err != nil {
		return access{}, ctx.Err()
	}
	if found := a.creds.JSON(); len(found) > 0 {
		if err := json.Unmarshal(found, &a.key); err != nil {
			return access{}, fmt.Errorf("%s: is not the JSON of credentials", o.Credentials.whichKey())
		}
	}
	return a, httptransport.AddAuthorizationMiddleware(client, a.creds)
}

// detect makes credentials of the text of a file, or finds those of the machine.
func detect(o *credentials.DetectOptions, text string) (*auth.Credentials, error) {
	if text == "" {
		return credentials.DetectDefault(o)
	}
	var head keyFile
	if err := json.Unmarshal([]byte(text), &head); err != nil || head.Type == "" {
		return nil, errors.New("is not the JSON of credentials") // which may be secret
	}
	return credentials.NewCredentialsFromJSON(credentials.CredType(head.Type), []byte(text), o)
}

// content is the text of the credentials, "" if none are configured.
func (c Credentials) content() (string, error) {
	if c.File == "" {
		return c.JSON, nil
	}
	file, err := os.Open(c.File)
	if err != nil {
		return "", fmt.Errorf("storage.gcs.keyfile: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, 1<<20))
	if err != nil {
		return "", fmt.Errorf("storage.gcs.keyfile: %w", err)
	}
	if len(text) == 0 {
		return "", fmt.Errorf("storage.gcs.keyfile: %s is empty", c.File)
	}
	return string(text), nil
}

// whichKey is the key of the configuration that credentials come from.
func (c Credentials) whichKey() string {
	if c.File == "" && c.JSON != "" {
		return "storage.gcs.keyfile or storage.gcs.credentials"
	}
	return "storage.gcs.keyfile"
}

// email is the service account that the credentials are of, "" if they do not say.
func (k keyFile) email() string {
	if k.Email != "" {
		return k.Email
	}
	_, after, _ := strings.Cut(k.Impersonation, "/serviceAccounts/")
	email, _, _ := strings.Cut(after, ":")
	return email
}

// network returns what sends requests: to the service, or to who gives tokens.
func network(o Options, service bool) (*http.Client, error) {
	n := remote.Network{Section: "storage.gcs", SkipVerify: o.SkipVerify, CA: o.CA, Proxy: o.Proxy, Wrap: o.Transport}
	if !service {
		return n.Client()
	}
	n.Wrap = func(next http.RoundTripper) http.RoundTripper {
		if o.Transport != nil {
			next = o.Transport(next)
		}
		return wire{next}
	}
	return n.Client()
}

// newClient makes the client of the library: HTTP only, without metrics of its own, and without retries that are not asked for.
func newClient(ctx context.Context, o Options, client *http.Client) (*gcs.Client, error) {
	options := []option.ClientOption{option.WithHTTPClient(client), gcs.WithDisabledClientMetrics(), option.WithEndpoint(endpoint(o) + "/storage/v1/")}
	if o.UserAgent != "" {
		options = append(options, option.WithUserAgent(o.UserAgent))
	}
	c, err := gcs.NewClient(context.WithoutCancel(ctx), options...)
	if err != nil {
		return nil, fmt.Errorf("storage.gcs.endpoint: %w", err)
	}
	return c, nil
}

// endpoint is the scheme and host of the service.
func endpoint(o Options) string {
	if o.Endpoint != "" {
		return o.Endpoint
	}
	return "https://storage.googleapis.com"
}
