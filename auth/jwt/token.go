// Package jwt verifies JSON Web Tokens (RFC 7519) by keys of the configuration: files, and addresses that the
// configuration names. A token says at most which of these keys it claims to be signed by. What its header offers as a key
// or as a place to get one (jwk, jku, x5u) is not used.
package jwt

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"berth/auth"
)

// Bounds of a token, which hold before any work is done on it.
const (
	maxSize  = 16 << 10 // bytes; identity tokens with many groups reach 10 KiB
	maxChain = 5        // certificates in x5c: building a chain takes time that grows with them
)

// Algorithms are the signature algorithms that are accepted.
type Algorithms []jose.SignatureAlgorithm

var asymmetric = Algorithms{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// ParseAlgorithms returns the algorithms of the names; without names all those of public keys. Those of shared secrets
// (HS256 and so on) and "none" are refused: whoever can check tokens could make them.
func ParseAlgorithms(names []string) (Algorithms, error) {
	if len(names) == 0 {
		return asymmetric, nil
	}
	var all Algorithms
	for _, name := range names {
		if !slices.Contains(asymmetric, jose.SignatureAlgorithm(name)) {
			return nil, fmt.Errorf("the signature algorithm %q is none of %v", name, asymmetric)
		}
		all = append(all, jose.SignatureAlgorithm(name))
	}
	return all, nil
}

// A Token is a parsed token, of which nothing can be believed before it was verified. It never changes.
type Token struct {
	jws    *jose.JSONWebSignature
	claims Claims
}

// Looks reports whether a text looks like a token, as far as a glance tells: three parts, the first of them a JSON object.
func Looks(text string) bool {
	return strings.HasPrefix(text, "eyJ") && strings.Count(text, ".") == 2
}

// Parse parses a token in the compact form (RFC 7515, section 7.1), of any algorithm of public keys. Errors match [auth.ErrToken].
func Parse(text string) (*Token, error) {
	if len(text) > maxSize {
		return nil, invalid("it is longer than %d bytes", maxSize)
	}
	if err := checkHeader(text); err != nil {
		return nil, err
	}
	jws, err := jose.ParseSignedCompact(text, asymmetric)
	if unexpected := (*jose.ErrUnexpectedSignatureAlgorithm)(nil); errors.As(err, &unexpected) {
		return nil, errAlgorithm
	}
	if err != nil {
		return nil, invalid("it is malformed")
	}
	t := &Token{jws: jws}
	if err := json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &t.claims); err != nil || t.claims == nil {
		return nil, invalid("its claims are not a JSON object")
	}
	return t, nil
}

// checkHeader refuses what the header of a token must not have before anything in it is parsed further.
func checkHeader(text string) error {
	first, _, _ := strings.Cut(text, ".")
	data, err := base64.RawURLEncoding.DecodeString(first)
	if err != nil {
		return invalid("it is malformed")
	}
	var header Claims
	if err := json.Unmarshal(data, &header); err != nil {
		return invalid("it is malformed")
	}
	if _, ok := header["crit"]; ok { // RFC 7515, section 4.1.11: we know no extension
		return invalid("its header asks for an extension that is not known here")
	}
	var chain []json.RawMessage
	if raw, ok := header["x5c"]; ok && (json.Unmarshal(raw, &chain) != nil || len(chain) > maxChain) {
		return invalid("it has more than %d certificates", maxChain)
	}
	if _, ok := header["typ"]; ok {
		typ, _ := header.Text("typ")
		typ = strings.TrimPrefix(strings.ToLower(typ), "application/")
		if typ != "jwt" && typ != "at+jwt" { // RFC 8725, section 3.11: not a token of another purpose
			return invalid("it is of another type than JWT")
		}
	}
	return nil
}

// Claims returns the claims of t. They are an assertion of anybody until t was verified.
func (t *Token) Claims() Claims { return t.claims }

// CheckAlgorithm refuses a token that claims to be signed by another algorithm than the accepted ones. Errors match
// [auth.ErrToken].
func (t *Token) CheckAlgorithm(accepted Algorithms) error {
	if slices.Contains(accepted, jose.SignatureAlgorithm(t.jws.Signatures[0].Protected.Algorithm)) {
		return nil
	}
	return errAlgorithm
}

// kid is the name of the key by which t claims to be signed. Some token servers put it beside a copy of the key.
func (t *Token) kid() string {
	header := t.jws.Signatures[0].Protected
	if header.KeyID == "" && header.JSONWebKey != nil {
		return header.JSONWebKey.KeyID
	}
	return header.KeyID
}

// Verify checks the signature of t by the keys. Errors match [auth.ErrToken]; [ErrUnknownKey] too when there is no key of
// the name that t gives.
func (t *Token) Verify(keys *Keys, now time.Time) error {
	candidates := keys.find(t.kid())
	if len(candidates) == 0 {
		return ErrUnknownKey
	}
	err := errSignature
	for _, k := range candidates {
		if now.Before(k.from) || now.After(k.until) { // one that was renewed may follow
			err = invalid("the certificate of its key is not valid now")
		} else if t.signedBy(k) {
			return nil
		}
	}
	return err
}

func (t *Token) signedBy(k key) bool {
	if k.algorithm != "" && k.algorithm != t.jws.Signatures[0].Protected.Algorithm {
		return false
	}
	_, err := t.jws.Verify(k.public)
	return err == nil
}

// VerifyBy checks the signature of t by the keys of a source, which is asked for newer ones if t names one that it has
// not. It returns the keys by which t was verified. Errors are those of [Token.Verify] and of the source.
func (t *Token) VerifyBy(ctx context.Context, source Source, now time.Time) (*Keys, error) {
	keys, err := source.Keys(ctx)
	if err != nil {
		return nil, err
	}
	if err = t.Verify(keys, now); errors.Is(err, ErrUnknownKey) {
		if keys, err = source.Renewed(ctx); err == nil {
			err = t.Verify(keys, now)
		}
	}
	return keys, err
}

// Why a token is not verified. All match [auth.ErrToken].
var (
	ErrUnknownKey = fmt.Errorf("%w: it is signed by a key that is not trusted here", auth.ErrToken)
	errAlgorithm  = invalid("its signature algorithm is not accepted here")
	errSignature  = fmt.Errorf("%w: its signature is wrong", auth.ErrToken)
)

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", auth.ErrToken, fmt.Sprintf(format, args...))
}
