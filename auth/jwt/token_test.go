package jwt_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"berth/auth"
	"berth/auth/jwt"
	"berth/auth/jwttest"
)

type claims = map[string]any

func good() claims { return claims{"iss": "i", "aud": "s", "exp": time.Now().Add(time.Hour).Unix()} }

func parseKeys(t testing.TB, keys ...*jwttest.Key) *jwt.Keys {
	t.Helper()
	parsed, err := jwt.ParseKeys("keys", jwttest.Set(t, keys...))
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func verify(text string, keys *jwt.Keys) error {
	token, err := jwt.Parse(text)
	if err != nil {
		return err
	}
	return token.Verify(keys, time.Now())
}

func TestAlgorithms(t *testing.T) {
	for _, algorithm := range []jose.SignatureAlgorithm{
		jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
	} {
		key := jwttest.NewKey(t, "k", algorithm)
		text := key.Sign(t, good(), nil)
		if err := verify(text, parseKeys(t, key)); err != nil {
			t.Errorf("%s: %v", algorithm, err)
		}
		other, err := jwt.ParseAlgorithms([]string{"ES256"})
		if err != nil {
			t.Fatal(err)
		}
		token, err := jwt.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := token.CheckAlgorithm(other); (err == nil) != (algorithm == jose.ES256) || err != nil && !errors.Is(err, auth.ErrToken) {
			t.Errorf("%s where ES256 alone is accepted: %v", algorithm, err)
		}
	}
	for _, name := range []string{"none", "HS256", "HS512", "rs256", "", "ES256K"} {
		if _, err := jwt.ParseAlgorithms([]string{"RS256", name}); err == nil {
			t.Errorf("%q is accepted", name)
		}
	}
}

// TestHostileTokens has what a token may try, beside one that is right.
func TestHostileTokens(t *testing.T) {
	key := jwttest.NewKey(t, "k", jose.RS256)
	own := jwttest.NewKey(t, "k", jose.ES256) // the attacker's
	second := jwttest.NewKey(t, "second", jose.ES256)
	keys := parseKeys(t, key, second)
	der, err := x509.MarshalPKIXPublicKey(key.Private.Public())
	if err != nil {
		t.Fatal(err)
	}
	hs256 := func(secret []byte) func([]byte) []byte {
		return func(input []byte) []byte {
			h := hmac.New(sha256.New, secret)
			h.Write(input)
			return h.Sum(nil)
		}
	}
	pemKey := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	nothing := func([]byte) []byte { return nil }
	right := key.Sign(t, good(), nil)
	parts := strings.Split(right, ".")
	foreign := jwttest.Certify(t, nil, time.Now().Add(time.Hour))
	jwk := own.JWK()
	flipped := []byte(right)
	flipped[len(flipped)-100] ^= 1
	for name, text := range map[string]string{
		"alg none":                     jwttest.Raw(t, claims{"alg": "none", "kid": "k"}, good(), nothing),
		"alg None":                     jwttest.Raw(t, claims{"alg": "None", "kid": "k"}, good(), nothing),
		"no alg":                       jwttest.Raw(t, claims{"kid": "k"}, good(), nothing),
		"alg none, a true signature":   jwttest.Raw(t, claims{"alg": "none"}, good(), hs256(der)),
		"HS256 by the public key, DER": jwttest.Raw(t, claims{"alg": "HS256", "kid": "k"}, good(), hs256(der)),
		"HS256 by the public key, PEM": jwttest.Raw(t, claims{"alg": "HS256", "kid": "k"}, good(), hs256(pemKey)),
		"no signature":                 jwttest.Raw(t, claims{"alg": "RS256", "kid": "k"}, good(), nothing),
		"zero signature":               jwttest.Raw(t, claims{"alg": "ES256", "kid": "second"}, good(), func([]byte) []byte { return make([]byte, 64) }),
		"own key in jwk":               own.Sign(t, good(), claims{"jwk": jwk}),
		"own key in jku":               own.Sign(t, good(), claims{"jku": "https://attacker.example/keys"}),
		"own key in x5u":               own.Sign(t, good(), claims{"x5u": "https://attacker.example/cert"}),
		"own key in x5c":               foreign.Sign(t, good(), foreign.X5C()),
		"own key in x5c, kid of ours":  (&jwttest.Key{ID: "k", Algorithm: jose.ES256, Private: foreign.Private}).Sign(t, good(), foreign.X5C()),
		"own key by our kid":           own.Sign(t, good(), nil),
		"kid of another key":           (&jwttest.Key{ID: "second", Algorithm: jose.RS256, Private: key.Private}).Sign(t, good(), nil),
		"another kid":                  (&jwttest.Key{ID: "x", Algorithm: jose.RS256, Private: key.Private}).Sign(t, good(), nil),
		"no kid where keys are two":    (&jwttest.Key{Algorithm: jose.RS256, Private: key.Private}).Sign(t, good(), nil),
		"another algorithm of the key": (&jwttest.Key{ID: "k", Algorithm: jose.PS256, Private: key.Private}).Sign(t, good(), nil),
		"crit":                         key.Sign(t, good(), claims{"crit": []string{"x"}, "x": 1}),
		"crit b64":                     key.Sign(t, good(), claims{"crit": []string{"b64"}, "b64": true}),
		"another type":                 key.Sign(t, good(), claims{"typ": "logout+jwt"}),
		"type not a string":            jwttest.Raw(t, claims{"alg": "RS256", "kid": "k", "typ": 1}, good(), nothing),
		"six certificates":             key.Sign(t, good(), claims{"x5c": slices.Repeat(foreign.X5C()["x5c"].([]string), 6)}),
		"oversized":                    key.Sign(t, claims{"iss": "i", "x": strings.Repeat("x", 16<<10)}, nil),
		"truncated":                    right[:len(right)-1],
		"truncated after the claims":   parts[0] + "." + parts[1],
		"empty signature":              parts[0] + "." + parts[1] + ".",
		"flipped":                      string(flipped),
		"two signatures":               right + "." + parts[2],
		"JSON form, two signatures": fmt.Sprintf(`{"payload":%q,"signatures":[{"protected":%q,"signature":%q},{"protected":%q,"signature":%q}]}`,
			parts[1], parts[0], parts[2], parts[0], parts[2]),
		"JSON form":            fmt.Sprintf(`{"payload":%q,"protected":%q,"signature":%q}`, parts[1], parts[0], parts[2]),
		"claims of another":    parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"i","sub":"root"}`)) + "." + parts[2],
		"claims null":          key.Sign(t, nil, nil),
		"claims a list":        key.Sign(t, []int{1}, nil),
		"white space in it":    parts[0] + " ." + parts[1] + "." + parts[2],
		"a JWE has five parts": "a.b.c.d.e",
		"nothing":              "",
		"dots":                 "..",
	} {
		if err := verify(text, keys); !errors.Is(err, auth.ErrToken) {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), "attacker") || len(err.Error()) > 200 {
			t.Errorf("%s: the error repeats the token: %v", name, err)
		}
	}
	if err := verify(right, keys); err != nil {
		t.Errorf("the right one: %v", err)
	}
}

// TestCVE_2025_24976: a key in the header of a token is no key, also not beside the name of one of ours.
func TestCVE_2025_24976(t *testing.T) {
	ours := jwttest.NewKey(t, "k", jose.ES256)
	theirs := &jwttest.Key{ID: "k", Algorithm: jose.ES256, Private: jwttest.NewKey(t, "k", jose.ES256).Private}
	keys := parseKeys(t, ours)
	for name, text := range map[string]string{
		"its own key":               theirs.Sign(t, good(), claims{"jwk": theirs.JWK()}),
		"its own key, and our name": theirs.Sign(t, good(), claims{"jwk": theirs.JWK(), "kid": "k"}),
		"our key, signed by its":    theirs.Sign(t, good(), claims{"jwk": ours.JWK()}),
	} {
		if err := verify(text, keys); !errors.Is(err, auth.ErrToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNamesOfKeys has what a header may say beside, or instead of, the name of the key.
func TestNamesOfKeys(t *testing.T) {
	key, second := jwttest.NewKey(t, "k", jose.RS256), jwttest.NewKey(t, "second", jose.ES256)
	keys := parseKeys(t, key, second)
	foreign := jwttest.Certify(t, nil, time.Now().Add(time.Hour))
	for name, text := range map[string]string{
		"as usual":                key.Sign(t, good(), nil),
		"typ of RFC 9068":         key.Sign(t, good(), claims{"typ": "application/at+JWT"}),
		"kid in the jwk":          (&jwttest.Key{Algorithm: jose.RS256, Private: key.Private}).Sign(t, good(), claims{"jwk": key.JWK()}),
		"a foreign x5c, our key":  key.Sign(t, good(), foreign.X5C()),
		"the attacker's jku, too": key.Sign(t, good(), claims{"jku": "https://attacker.example/keys"}),
	} {
		if err := verify(text, keys); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := verify((&jwttest.Key{Algorithm: jose.RS256, Private: key.Private}).Sign(t, good(), nil), parseKeys(t, key)); err != nil {
		t.Errorf("no kid, a set of one key: %v", err)
	}
}

func TestBundle(t *testing.T) {
	now := time.Now()
	root := jwttest.Certify(t, nil, now.Add(time.Hour))
	leaf, expired := jwttest.Certify(t, root, now.Add(time.Hour)), jwttest.Certify(t, root, now.Add(-time.Hour))
	foreign := jwttest.Certify(t, nil, now.Add(time.Hour))
	early := jwttest.Certify(t, root, now.Add(72*time.Hour)) // valid from tomorrow
	bundle, err := jwt.ParseBundle("bundle", append([]byte("a comment\n"), root.PEM()...))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		text        string
		chained, ok bool
	}{
		"leaf":                 {leaf.Sign(t, good(), leaf.X5C()), true, true},
		"root":                 {root.Sign(t, good(), root.X5C()), true, true},
		"foreign":              {foreign.Sign(t, good(), foreign.X5C()), true, false},
		"expired":              {expired.Sign(t, good(), expired.X5C()), true, false},
		"not yet":              {early.Sign(t, good(), early.X5C()), true, false},
		"leaf of another key":  {foreign.Sign(t, good(), leaf.X5C()), true, false},
		"no certificate":       {leaf.Sign(t, good(), nil), false, false},
		"not a certificate":    {leaf.Sign(t, good(), claims{"x5c": []string{"AAAA"}}), false, false},
		"a list of no strings": {leaf.Sign(t, good(), claims{"x5c": []int{1}}), false, false},
	} {
		token, err := jwt.Parse(test.text)
		chained := false
		if err == nil {
			chained, err = token.VerifyChain(bundle, now)
		}
		if chained != test.chained || test.ok != (chained && err == nil) || err != nil && !errors.Is(err, auth.ErrToken) {
			t.Errorf("%s: got %t, %v", name, chained, err)
		}
	}
}

// TestThumbprints has both names of one key, worked out by other means.
func TestThumbprints(t *testing.T) {
	c := jwttest.Certify(t, nil, time.Now().Add(time.Hour))
	bundle, err := jwt.ParseBundle("bundle", c.PEM())
	if err != nil {
		t.Fatal(err)
	}
	point, err := c.X509.PublicKey.(interface{ Bytes() ([]byte, error) }).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	sum := sha256.Sum256([]byte(fmt.Sprintf(`{"crv":"P-256","kty":"EC","x":%q,"y":%q}`, b64(point[1:33]), b64(point[33:]))))
	k := *c.Key
	k.ID = b64(sum[:])
	if err := verify(k.Sign(t, good(), nil), bundle.Keys()); err != nil {
		t.Errorf("RFC 7638: %v", err)
	}
	if k.ID = "AAAA:AAAA:AAAA"; verify(k.Sign(t, good(), nil), bundle.Keys()) == nil {
		t.Error("any kid will do")
	}
	old := jwttest.Certify(t, nil, time.Now().Add(-time.Hour))
	if bundle, err = jwt.ParseBundle("bundle", old.PEM()); err != nil {
		t.Fatal(err)
	}
	if old.ID, err = jwt.Thumbprint(old.X509.PublicKey); err != nil {
		t.Fatal(err)
	}
	if err := verify(old.Sign(t, good(), nil), bundle.Keys()); err == nil || !strings.Contains(err.Error(), "not valid now") {
		t.Errorf("an expired certificate: %v", err)
	}
}

// TestFingerprint has the kid of the example key in the specification of the distribution project's tokens.
func TestFingerprint(t *testing.T) {
	var example jose.JSONWebKey
	if err := example.UnmarshalJSON([]byte(`{"kty":"EC","crv":"P-256","x":"m7zUpx3b-zmVE5cymSs64POG9QcyEpJaYCD82-549_Q",` +
		`"y":"dU3biz8sZ_8GPB-odm8Wxz3lNDr1xcAQQPQaOcr1fmc"}`)); err != nil {
		t.Fatal(err)
	}
	if got, err := jwt.Fingerprint(example.Key); got != "PYYO:TEWU:V7JH:26JV:AQTZ:LJC3:SXVJ:XGHA:34F2:2LAQ:ZRMK:Z7Q6" {
		t.Errorf("got %q, %v", got, err)
	}
	c := jwttest.Certify(t, nil, time.Now().Add(time.Hour))
	id, err := jwt.Fingerprint(c.X509.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := jwt.ParseBundle("bundle", c.PEM())
	if err != nil {
		t.Fatal(err)
	}
	k := *c.Key
	k.ID = id
	if err := verify(k.Sign(t, good(), nil), bundle.Keys()); err != nil {
		t.Error(err)
	}
}

func TestBadBundles(t *testing.T) {
	c := jwttest.Certify(t, nil, time.Now().Add(time.Hour))
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("secret")})
	broken := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})
	for want, data := range map[string][]byte{
		"/b: no certificate in PEM":                                        []byte("hello"),
		`/b: the block number 2: it is a "PRIVATE KEY", not a certificate`: append(c.PEM(), private...),
		"/b: the block number 1: x509: malformed certificate":              broken,
	} {
		if _, err := jwt.ParseBundle("/b", data); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	key := jwttest.NewKey(f, "k", jose.ES256)
	keys := parseKeys(f, key)
	right := key.Sign(f, good(), nil)
	stranger := jwttest.NewKey(f, "k", jose.ES256)
	for _, seed := range []string{"", "..", "a.b.c", right, right[:40], stranger.Sign(f, good(), claims{"jwk": stranger.JWK()})} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		token, err := jwt.Parse(text)
		if err != nil {
			if !errors.Is(err, auth.ErrToken) || len(err.Error()) > 200 {
				t.Fatal(err)
			}
			return
		}
		_, _ = token.Claims().Check("i", []string{"s"}, time.Now())
		// What stands in the two signed parts cannot be anything but what was signed. (The last character of a part may
		// have bits that mean nothing.)
		signed, _, _ := strings.Cut(right[strings.Index(right, ".")+1:], ".")
		if token.Verify(keys, time.Now()) == nil && !strings.HasPrefix(text, right[:strings.Index(right, ".")+1+len(signed)]) {
			t.Errorf("%q is verified", text)
		}
	})
}
