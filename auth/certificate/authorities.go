package certificate

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"sync/atomic"

	"berth/auth/reload"
)

// maxFile bounds a file of authorities, in bytes.
const maxFile = 4 << 20

// Authorities are those whose certificates clients may show, as their files have them now. They are safe for concurrent use.
type Authorities struct {
	files []*reload.File[[]*x509.Certificate]
	state atomic.Pointer[state]
}

// A state is what was made of what the files said at one time.
type state struct {
	from []*[]*x509.Certificate // by file
	pool *x509.CertPool
	raw  map[string]bool // DER
}

// OpenAuthorities reads files of certificates in PEM and keeps them up to date. Errors name the file.
func OpenAuthorities(paths []string, o *reload.Options) (*Authorities, error) {
	a := &Authorities{}
	for _, path := range paths {
		f, err := reload.Open(path, maxFile, parse, o)
		if err != nil {
			return nil, err
		}
		a.files = append(a.files, f)
	}
	a.now()
	return a, nil
}

// parse reads certificates; other blocks, as of keys, are left out.
func parse(path string, data []byte) (certificates []*x509.Certificate, err error) {
	for number := 1; ; number++ {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: the block number %d: %w", path, number, err)
		}
		certificates = append(certificates, c)
	}
	if len(certificates) == 0 {
		return nil, fmt.Errorf("%s: there is no certificate in PEM", path)
	}
	return certificates, nil
}

// now returns the state of what the files say now.
func (a *Authorities) now() *state {
	s := a.state.Load()
	same := s != nil
	from := make([]*[]*x509.Certificate, len(a.files))
	for i, f := range a.files {
		from[i] = f.Get()
		same = same && from[i] == s.from[i]
	}
	if same {
		return s
	}
	s = &state{from: from, pool: x509.NewCertPool(), raw: make(map[string]bool)}
	for _, certificates := range from {
		for _, c := range *certificates {
			s.pool.AddCert(c)
			s.raw[string(c.Raw)] = true
		}
	}
	a.state.Store(s)
	return s
}

// Pool returns the authorities in force: the same pool until they change.
func (a *Authorities) Pool() *x509.CertPool { return a.now().pool }

// Trusts reports whether a chain, which was verified some time ago, still ends with an authority in force.
func (a *Authorities) Trusts(chain []*x509.Certificate) bool {
	return len(chain) > 0 && a.now().raw[string(chain[len(chain)-1].Raw)]
}

// Refresh looks at all files at once. Its error joins what keeps changed ones from taking effect.
func (a *Authorities) Refresh() (err error) {
	for _, f := range a.files {
		err = errors.Join(err, f.Refresh())
	}
	return err
}
