package jwt

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// A Bundle is certificates that are trusted to sign tokens, or to sign certificates that do. It never changes.
type Bundle struct {
	roots *x509.CertPool
	keys  *Keys
}

// ParseBundle parses certificates in PEM. Errors begin with the name, which is of the file that they come from, and give
// the number of the block, counted from 1.
func ParseBundle(name string, data []byte) (*Bundle, error) {
	b := &Bundle{roots: x509.NewCertPool(), keys: &Keys{named: make(map[string][]key)}}
	for number := 1; ; number++ {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			if number == 1 {
				return nil, fmt.Errorf("%s: no certificate in PEM", name)
			}
			return b, nil
		}
		if err := b.add(block); err != nil {
			return nil, fmt.Errorf("%s: the block number %d: %w", name, number, err)
		}
	}
}

func (b *Bundle) add(block *pem.Block) error {
	if block.Type != "CERTIFICATE" {
		return fmt.Errorf("it is a %q, not a certificate", block.Type)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	if err := checkKey(cert.PublicKey); err != nil {
		return err
	}
	b.roots.AddCert(cert)
	k := key{public: cert.PublicKey, from: cert.NotBefore, until: cert.NotAfter}
	modern, err := thumbprint(cert.PublicKey)
	if err != nil {
		return err
	}
	old, err := fingerprint(cert.PublicKey)
	if err != nil {
		return err
	}
	return errors.Join(b.keys.add(modern, k), b.keys.add(old, k))
}

// VerifyChain checks the signature of t by the certificates in its header (x5c, RFC 7515, section 4.1.6), of which the
// first one must lead to one of the bundle; what they may be used for does not matter. It reports false if t has none.
// Errors match [auth.ErrToken].
func (t *Token) VerifyChain(b *Bundle, now time.Time) (bool, error) {
	chains, err := t.jws.Signatures[0].Protected.Certificates(x509.VerifyOptions{
		Roots: b.roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if errors.Is(err, jose.ErrMissingX5cHeader) {
		return false, nil
	}
	if err != nil {
		return true, invalid("its certificate is not trusted here, or not valid now")
	}
	public := chains[0][0].PublicKey
	if checkKey(public) != nil || !t.signedBy(key{public: public}) {
		return true, errSignature
	}
	return true, nil
}

// Keys returns the keys of the certificates, by the thumbprint of RFC 7638 and by the older one of libtrust.
func (b *Bundle) Keys() *Keys { return b.keys }
