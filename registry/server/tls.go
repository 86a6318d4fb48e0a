package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"berth/auth/certificate"
	"berth/auth/reload"
)

const (
	maxPEM     = 1 << 20             // bytes of a file of certificates
	expiryWarn = 14 * 24 * time.Hour // how long before its end a certificate is warned of
)

// A CertificateFile is a certificate with its key, for some names or for all.
type CertificateFile struct {
	Setting     string   // the key of the configuration, for errors
	Hostnames   []string // exact, or with a first part of "*"; none: the certificate of every other name
	Certificate string   // the file of a chain in PEM
	Key         string   // the file of a private key in PEM
}

// TLSOptions say how TLS is spoken.
type TLSOptions struct {
	// Certificates has at least one. Where none has no names, the first is that of every other name.
	Certificates []CertificateFile
	// MinVersion is 0 for TLS 1.2.
	MinVersion uint16
	// CipherSuites of TLS 1.2. None: Go's choice.
	CipherSuites []string
	// ClientCAs are the authorities of which clients must show a certificate. Nil: they need not.
	ClientCAs *certificate.Authorities
	// ClientAuth is another rule, by distribution's name. "": as ClientCAs has it.
	ClientAuth string
	// OnReload is told of each attempt to take certificates that changed, with their Setting. Nil: nobody is.
	OnReload func(setting string, err error)
	// Log is told of reloads and of certificates that end soon.
	Log logrus.FieldLogger
}

// A TLS is certificates that are kept up to date, with what is asked of clients. It is safe for concurrent use.
type TLS struct {
	config   *tls.Config
	byName   map[string]*pair // in lower case
	fallback *pair
	all      []*pair
	files    []CertificateFile // of all
	log      logrus.FieldLogger

	clientCAs *certificate.Authorities   // nil: none
	latest    atomic.Pointer[tls.Config] // with the client CAs as of the last connection
}

// A pair is a certificate with its key, as its files have it now.
type pair = reload.File[*tls.Certificate]

// A SettingError is what is wrong with the files of a setting.
type SettingError struct {
	Setting string
	Err     error
}

func (e *SettingError) Error() string { return e.Setting + ": " + e.Err.Error() }

// Unwrap returns Err.
func (e *SettingError) Unwrap() error { return e.Err }

// OpenTLS reads all files. What is wrong with one is a [*SettingError], which names the file, too.
func OpenTLS(o TLSOptions) (*TLS, error) {
	if len(o.Certificates) == 0 {
		return nil, errors.New("open TLS: there is no certificate")
	}
	if o.OnReload == nil {
		o.OnReload = func(string, error) {}
	}
	t := &TLS{byName: map[string]*pair{}, files: o.Certificates, log: o.Log}
	for _, files := range o.Certificates {
		p, err := openPair(files, o)
		if err != nil {
			return nil, err
		}
		t.all = append(t.all, p)
		for _, name := range files.Hostnames {
			t.byName[strings.ToLower(name)] = p
		}
		if len(files.Hostnames) == 0 {
			t.fallback = p
		}
	}
	if t.fallback == nil {
		t.fallback = t.all[0]
	}
	t.config = &tls.Config{MinVersion: max(o.MinVersion, tls.VersionTLS12), GetCertificate: t.choose}
	for _, suite := range tls.CipherSuites() {
		for _, name := range o.CipherSuites {
			if suite.Name == name {
				t.config.CipherSuites = append(t.config.CipherSuites, suite.ID)
			}
		}
	}
	return t, t.askClients(o)
}

// openPair keeps a pair by its certificate: a new one is taken with the key that is there then, and when that is the old
// one still, as between two writes, looked at again.
func openPair(files CertificateFile, o TLSOptions) (*pair, error) {
	parse := func(path string, chain []byte) (*tls.Certificate, error) { return parsePair(path, chain, files.Key) }
	p, err := reload.Open(files.Certificate, maxPEM, parse, &reload.Options{
		OnError: func(err error) {
			o.Log.Error((&SettingError{files.Setting, err}).Error())
			o.OnReload(files.Setting, err)
		},
		OnReload: func() {
			o.Log.Info(files.Setting + ": reloaded " + files.Certificate)
			o.OnReload(files.Setting, nil)
		},
	})
	if err != nil {
		return nil, &SettingError{files.Setting, err}
	}
	return p, nil
}

// parsePair refuses a certificate that has ended, which no client takes.
func parsePair(path string, chain []byte, keyFile string) (*tls.Certificate, error) {
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	c, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("%s with the key %s: %w", path, keyFile, err)
	}
	if time.Now().After(c.Leaf.NotAfter) {
		return nil, fmt.Errorf("%s: the certificate expired on %s", path, c.Leaf.NotAfter.Format(time.DateOnly))
	}
	return &c, nil
}

// askClients sets what is asked of clients.
func (t *TLS) askClients(o TLSOptions) error {
	if o.ClientCAs != nil {
		t.clientCAs = o.ClientCAs
		t.config.ClientCAs = o.ClientCAs.Pool()
		t.config.ClientAuth = tls.RequireAndVerifyClientCert
		t.config.GetConfigForClient = t.withClientCAs
		t.config.SessionTicketsDisabled = true // a session would be taken up after its authority was taken away
	}
	switch o.ClientAuth {
	case "":
	case "request-client-cert":
		t.config.ClientAuth = tls.RequestClientCert
	case "require-any-client-cert":
		t.config.ClientAuth = tls.RequireAnyClientCert
	case "verify-client-cert-if-given":
		t.config.ClientAuth = tls.VerifyClientCertIfGiven
	case "require-and-verify-client-cert":
		t.config.ClientAuth = tls.RequireAndVerifyClientCert
	default:
		return fmt.Errorf("http.tls.clientauth: %q is not known", o.ClientAuth)
	}
	return nil
}

// speaking sets the protocols that are offered above TLS, and returns what a server is configured with. It must not be
// serving yet.
func (t *TLS) speaking(http1Only bool) *tls.Config {
	t.config.NextProtos = []string{"h2", "http/1.1"}
	if http1Only {
		t.config.NextProtos = t.config.NextProtos[1:]
	}
	return t.config
}

// withClientCAs returns the configuration with the authorities in force now; it is made once for each change of them.
func (t *TLS) withClientCAs(*tls.ClientHelloInfo) (*tls.Config, error) {
	pool := t.clientCAs.Pool()
	if c := t.latest.Load(); c != nil && c.ClientCAs == pool {
		return c, nil
	}
	c := t.config.Clone()
	c.GetConfigForClient, c.ClientCAs = nil, pool
	t.latest.Store(c)
	return c, nil
}

// choose finds the certificate of the name that a client asks for: its own, that of the names beside it, or the fallback.
func (t *TLS) choose(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	p, ok := t.byName[name]
	if !ok {
		_, parent, _ := strings.Cut(name, ".")
		if p, ok = t.byName["*."+parent]; !ok {
			p = t.fallback
		}
	}
	return *p.Get(), nil
}

// Expires returns when the first of the certificates ends.
func (t *TLS) Expires() time.Time {
	var first time.Time
	for _, p := range t.all {
		if end := (*p.Get()).Leaf.NotAfter; first.IsZero() || end.Before(first) {
			first = end
		}
	}
	return first
}

// A Certificate is what a certificate in force says of itself.
type Certificate struct {
	Setting string
	Names   []string
	Expires time.Time
}

// Certificates tells of those in force, in the order of the options.
func (t *TLS) Certificates() []Certificate {
	var all []Certificate
	for i, p := range t.all {
		leaf := (*p.Get()).Leaf
		all = append(all, Certificate{t.files[i].Setting, names(leaf), leaf.NotAfter})
	}
	return all
}

// Refresh looks at all files at once. Its error joins what keeps changed ones from taking effect.
func (t *TLS) Refresh() (err error) {
	for i, p := range t.all {
		if wrong := p.Refresh(); wrong != nil {
			err = errors.Join(err, &SettingError{t.files[i].Setting, wrong})
		}
	}
	if t.clientCAs != nil {
		err = errors.Join(err, t.clientCAs.Refresh())
	}
	return err
}

// watch warns every day of certificates that end soon.
func (t *TLS) watch(ctx context.Context) {
	tick := time.NewTicker(24 * time.Hour)
	defer tick.Stop()
	for {
		t.warn(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (t *TLS) warn(now time.Time) {
	for _, p := range t.all {
		if leaf := (*p.Get()).Leaf; leaf.NotAfter.Sub(now) < expiryWarn {
			t.log.WithField("expires", leaf.NotAfter.Format(time.RFC3339)).Warnf("the certificate for %s expires soon", strings.Join(names(leaf), ", "))
		}
	}
}

// names lists what a certificate is for.
func names(leaf *x509.Certificate) []string {
	all := slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		all = append(all, ip.String())
	}
	return all
}
