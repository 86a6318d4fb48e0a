package jwt

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	minRSA  = 2048
	maxRSA  = 8192
	maxKeys = 256 // in a set
	maxSame = 8   // keys of one name: a token is checked by each of them
)

// Keys are public keys by their names. They never change, and are told apart by their address.
type Keys struct {
	named map[string][]key
	only  []key             // the one key of a set that has no other
	sum   [sha256.Size]byte // of the document
}

type key struct {
	public      crypto.PublicKey
	algorithm   string // empty: any that fits the key
	from, until time.Time
}

// forever is until when a key is valid that says nothing of it.
var forever = time.Unix(1<<40, 0)

// find returns the keys of a name. A token without one can only mean the key of a set that has just one (OpenID Connect
// Core 1.0, section 10.1).
func (k *Keys) find(name string) []key {
	if name == "" {
		return k.only
	}
	return k.named[name]
}

func (k *Keys) add(name string, a key) error {
	if len(k.named[name]) == maxSame {
		return fmt.Errorf("more than %d keys have the name %q", maxSame, name)
	}
	k.named[name] = append(k.named[name], a)
	return nil
}

// ParseKeys parses a set of keys (RFC 7517, section 5). Keys of kinds that are not known are left out, and so are those for
// encryption and shared secrets, and those that are too weak or too large. Of private keys the public part is taken. Errors begin
// with the name, which is of the file or the address that the set comes from, and give the number of the key, counted from 1.
func ParseKeys(name string, data []byte) (*Keys, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("%s: not a JSON Web Key Set: %w", name, err)
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("%s: more than %d keys", name, maxKeys)
	}
	keys := &Keys{named: make(map[string][]key), sum: sha256.Sum256(data)}
	var all []key
	left := "" // why the last one was left out
	for i, raw := range set.Keys {
		id, k, err := parseKey(raw)
		if errors.Is(err, errOther) {
			left = fmt.Sprintf(": the key number %d: %v", i+1, err)
			continue
		}
		if err == nil {
			err = keys.add(id, k)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: the key number %d: %w", name, i+1, err)
		}
		all = append(all, k)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: no key that can verify a token%s", name, left)
	}
	if len(all) == 1 {
		keys.only = all
	}
	return keys, nil
}

// errOther is for a key that is none of ours.
var errOther = errors.New("not a key for tokens")

func parseKey(raw json.RawMessage) (name string, k key, err error) {
	var kind struct {
		Type  string   `json:"kty"`
		Curve string   `json:"crv"`
		Use   string   `json:"use"`
		Ops   []string `json:"key_ops"`
	}
	if err := json.Unmarshal(raw, &kind); err != nil {
		return "", key{}, err
	}
	known := kind.Type == "RSA" || kind.Type == "EC" && strings.HasPrefix(kind.Curve, "P-") ||
		kind.Type == "OKP" && kind.Curve == "Ed25519"
	if !known || kind.Use != "" && kind.Use != "sig" || kind.Ops != nil && !slices.Contains(kind.Ops, "verify") {
		return "", key{}, errOther
	}
	var parsed jose.JSONWebKey
	if err := parsed.UnmarshalJSON(raw); err != nil {
		return "", key{}, errors.New("not a valid key") // the library's error may quote a private key
	}
	public := parsed.Public()
	if err := checkKey(public.Key); err != nil {
		return "", key{}, fmt.Errorf("%w: %w", errOther, err)
	}
	if parsed.KeyID == "" {
		if parsed.KeyID, err = thumbprint(public.Key); err != nil {
			return "", key{}, err
		}
	}
	return parsed.KeyID, key{public.Key, parsed.Algorithm, time.Time{}, forever}, nil
}

// checkKey refuses keys that are too weak, or so large that checking a signature takes long.
func checkKey(public crypto.PublicKey) error {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSA || bits > maxRSA {
			return fmt.Errorf("an RSA key of %d bits; accepted are %d to %d", bits, minRSA, maxRSA)
		}
	case *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		return fmt.Errorf("a key of the type %T, which signs no tokens", public)
	}
	return nil
}

// thumbprint names a key as RFC 7638 does.
func thumbprint(public crypto.PublicKey) (string, error) {
	sum, err := (&jose.JSONWebKey{Key: public}).Thumbprint(crypto.SHA256)
	return base64.RawURLEncoding.EncodeToString(sum), err
}

// fingerprint names a key as the library libtrust did, and many token servers still do: twelve groups of four letters.
func fingerprint(public crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	var groups []string
	for group := range slices.Chunk([]byte(base32.StdEncoding.EncodeToString(sum[:30])), 4) {
		groups = append(groups, string(group))
	}
	return strings.Join(groups, ":"), nil
}
