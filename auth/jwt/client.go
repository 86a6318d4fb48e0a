package jwt

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// Bounds of a fetch.
const (
	maxTime      = 10 * time.Second // for all of it
	maxDocument  = 1 << 20          // bytes
	maxHeaders   = 64 << 10         // bytes
	maxRedirects = 3
)

// A Client says how documents are fetched. Whatever it is: redirects are followed only to the same host, and the document
// must be there within ten seconds and not be larger than 1 MiB.
type Client struct {
	// CA is a file of certificates that are trusted instead of those of the system. It is read at each fetch.
	CA string
	// TokenFile has a token to be sent with each request, also to where discovery says that the keys are; it is read at each
	// fetch. The API server of a Kubernetes cluster wants one before it tells its keys.
	TokenFile string
	// AllowHTTP allows unencrypted connections to other hosts than this one, which let whoever is in between make tokens.
	AllowHTTP bool
}

// check refuses an address that must not be fetched, and files that cannot be read.
func (c Client) check(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return errors.New("a malformed URL") // the parser's error may quote a password
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		return fmt.Errorf("%q is not the URL of a server", u.Redacted())
	case u.User != nil:
		return fmt.Errorf("%s: a URL must not have a user", u.Redacted())
	case u.Scheme == "http" && !c.AllowHTTP && !isLoopback(u.Hostname()):
		return fmt.Errorf("%s: keys must be fetched by https, so that nobody in between can replace them", address)
	}
	if _, err := c.roots(); err != nil {
		return err
	}
	_, err = c.token()
	return err
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// roots returns nil for those of the system.
func (c Client) roots() (*x509.CertPool, error) {
	if c.CA == "" {
		return nil, nil
	}
	data, err := os.ReadFile(c.CA)
	if err != nil {
		return nil, fmt.Errorf("read the certificate authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("read the certificate authority: %s: no certificate in PEM", c.CA)
	}
	return pool, nil
}

func (c Client) token() (string, error) {
	if c.TokenFile == "" {
		return "", nil
	}
	data, err := os.ReadFile(c.TokenFile)
	if err != nil {
		return "", fmt.Errorf("read the token for fetching keys: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if token == "" || strings.ContainsAny(token, "\r\n") {
		return "", fmt.Errorf("read the token for fetching keys: %s: not a token", c.TokenFile)
	}
	return token, nil
}

// get fetches a document. Errors name the address.
func (c Client) get(ctx context.Context, address string) (data []byte, err error) {
	if err := c.check(address); err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json, application/jwk-set+json")
	request.Header.Set("User-Agent", "berth")
	if token, err := c.token(); err != nil {
		return nil, err
	} else if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	roots, err := c.roots()
	if err != nil {
		return nil, err
	}
	client := http.Client{CheckRedirect: sameHost, Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, MaxResponseHeaderBytes: maxHeaders,
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	}}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: answered %s", address, response.Status)
	}
	if data, err = io.ReadAll(io.LimitReader(response.Body, maxDocument+1)); err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	if len(data) > maxDocument {
		return nil, fmt.Errorf("%s: larger than %d bytes", address, maxDocument)
	}
	return data, nil
}

// sameHost refuses redirects that lead away: keys come from where the configuration says.
func sameHost(r *http.Request, via []*http.Request) error {
	from := via[0].URL
	if len(via) > maxRedirects || r.URL.Scheme != from.Scheme || r.URL.Host != from.Host || r.URL.User != nil {
		return errors.New("redirects are followed only on the same host, and not often")
	}
	return nil
}

func (c Client) keys(ctx context.Context, address string) (*Keys, error) {
	data, err := c.get(ctx, address)
	if err != nil {
		return nil, err
	}
	return ParseKeys(address, data)
}

// Discover returns the source of an OpenID Connect issuer, a URL, whose metadata say where its keys are (OpenID Connect
// Discovery 1.0, section 4). Both are fetched each time.
func Discover(issuer string, o *Options) (*Remote, error) {
	filled := o.orDefaults()
	address := strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration"
	if err := filled.Client.check(address); err != nil {
		return nil, err
	}
	return &Remote{o: filled, fetch: func(ctx context.Context) (*Keys, error) {
		data, err := filled.Client.get(ctx, address)
		if err != nil {
			return nil, err
		}
		place, err := parseMetadata(data, issuer)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", address, err)
		}
		return filled.Client.keys(ctx, place)
	}}, nil
}

// parseMetadata returns the address of the keys. The issuer of the metadata must be exactly the one that was asked (section
// 4.3), or keys of one issuer would be taken for those of another.
func parseMetadata(data []byte, issuer string) (string, error) {
	var metadata struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(data, &metadata); err != nil {
		return "", fmt.Errorf("not the metadata of an issuer: %w", err)
	}
	if metadata.Issuer != issuer {
		return "", fmt.Errorf("the metadata are of the issuer %q, not of %q", metadata.Issuer, issuer)
	}
	if metadata.Keys == "" {
		return "", errors.New("the metadata have no jwks_uri")
	}
	return metadata.Keys, nil
}
