package jwt_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/auth"
	"berth/auth/jwt"
)

func parseClaims(t testing.TB, text string) jwt.Claims {
	t.Helper()
	var c jwt.Claims
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCheck(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for _, test := range []struct{ claims, want string }{
		{`{"iss":"i","aud":"s","exp":1000300}`, ""},
		{`{"iss":"i","aud":["x","s"],"exp":1000300}`, ""},
		{`{"iss":"i","aud":"s","exp":1000300.5,"nbf":1e6,"iat":1000000}`, ""},
		{`{"iss":"i","aud":"s","exp":999941}`, ""}, // a minute of leeway
		{`{"iss":"i","aud":"s","exp":999940}`, "expired"},
		{`{"iss":"i","aud":"s","exp":1000300,"nbf":1000060,"iat":1000060}`, ""},
		{`{"iss":"i","aud":"s","exp":1000300,"nbf":1000061}`, "not valid yet"},
		{`{"iss":"i","aud":"s","exp":1000300,"iat":1000061}`, "not valid yet"},
		{`{"iss":"i","aud":"s","exp":1000300,"nbf":1e300}`, "not valid yet"},
		{`{"iss":"i","aud":"s","exp":1e300}`, ""},
		{`{"iss":"i","aud":"s","exp":-1e300}`, "expired"},
		{`{"iss":"i","aud":"s","exp":0}`, "expired"},
		{`{"iss":"i","aud":"s"}`, "when it expires"},
		{`{"iss":"i","aud":"s","exp":null}`, "when it expires"},
		{`{"iss":"i","aud":"s","exp":"1000300"}`, "when it expires"},
		{`{"iss":"i","aud":"s","exp":1e999}`, "when it expires"},
		{`{"iss":"i","aud":"s","EXP":1000300}`, "when it expires"},
		{`{"iss":"i","aud":"s","exp":1000300,"nbf":"x"}`, "nbf is not a number"},
		{`{"iss":"j","aud":"s","exp":1000300}`, "another issuer"},
		{`{"iss":"i/","aud":"s","exp":1000300}`, "another issuer"},
		{`{"iss":["i"],"aud":"s","exp":1000300}`, "another issuer"},
		{`{"aud":"s","exp":1000300}`, "another issuer"},
		{`{"iss":"i","aud":"x","exp":1000300}`, "another service"},
		{`{"iss":"i","aud":[],"exp":1000300}`, "another service"},
		{`{"iss":"i","aud":["s",1],"exp":1000300}`, "another service"},
		{`{"iss":"i","aud":null,"exp":1000300}`, "another service"},
		{`{"iss":"i","aud":{"s":1},"exp":1000300}`, "another service"},
		{`{"iss":"i","exp":1000300}`, "another service"},
	} {
		expires, err := parseClaims(t, test.claims).Check("i", []string{"other", "s"}, now)
		switch {
		case test.want == "" && (err != nil || !expires.After(now)):
			t.Errorf("%s: got %v, %v", test.claims, expires, err)
		case test.want != "" && (!errors.Is(err, auth.ErrToken) || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: got %v, want %q", test.claims, err, test.want)
		}
	}
	if _, err := parseClaims(t, `{"iss":"","aud":"s","exp":2000000}`).Check("", []string{"s"}, now); err == nil {
		t.Error("no issuer is an issuer")
	}
	if _, err := parseClaims(t, `{"iss":"i","aud":"","exp":2000000}`).Check("i", []string{""}, now); err == nil {
		t.Error("no audience is an audience")
	}
}

func TestFind(t *testing.T) {
	c := parseClaims(t, `{"a.b":"1","a":{"b":"2","c":{"d":["3","4"]},"e.f":"5"},"kubernetes.io":{"namespace":"n"},"x":"y"}`)
	for path, want := range map[string][]string{
		"a.b": {"1"}, "a.c.d": {"3", "4"}, "a.e.f": {"5"}, "kubernetes.io.namespace": {"n"}, "x": {"y"},
		"a": nil, "a.c": nil, "x.y": nil, "": nil, ".": nil, "a.": nil, "a..b": nil, "kubernetes": nil,
	} {
		if got, _ := c.Find(path).Texts(path); !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", path, got, want)
		}
	}
}

func TestPrintable(t *testing.T) {
	for name, want := range map[string]bool{
		"alice": true, "system:serviceaccount:ns:builder": true, "Zoë Ä": true, "repo:a/b:ref:refs/heads/main": true,
		"": false, "a\nb": false, "a\x00": false, "a\x7f": false, "a\u0085": false, "a\u2028": false, "\xff": false,
		strings.Repeat("x", 513): false,
	} {
		if got := auth.Printable(name); got != want {
			t.Errorf("%q: got %t", name, got)
		}
	}
}

func FuzzClaims(f *testing.F) {
	for _, seed := range []string{
		`{"iss":"i","aud":"s","exp":1000300}`, `{"a":{"b":{"c":["d"]}}}`, `{"aud":["s",null],"exp":-1e308}`, `{"":{"":{"":1}}}`,
	} {
		f.Add(seed, "a.b.c")
	}
	f.Fuzz(func(t *testing.T, text, path string) {
		if len(path) > 40 {
			return // it is of the configuration
		}
		var c jwt.Claims
		if json.Unmarshal([]byte(text), &c) != nil {
			return
		}
		now := time.Unix(1_000_000, 0)
		if expires, err := c.Check("i", []string{"s"}, now); err == nil && !expires.After(now) || err != nil && !errors.Is(err, auth.ErrToken) {
			t.Errorf("got %v, %v", expires, err)
		}
		if found := c.Find(path); found != nil && len(found[path]) == 0 {
			t.Errorf("%q finds nothing at %q", text, path)
		}
	})
}
