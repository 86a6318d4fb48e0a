package auth_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"berth/auth"
)

func TestBasicChallenge(t *testing.T) {
	for realm, want := range map[string]string{
		"berth":       `Basic realm="berth"`,
		`a "b" \c`:    `Basic realm="a \"b\" \\c"`,
		"a\r\nX-Y: z": `Basic realm="a  X-Y: z"`,
		"":            `Basic realm=""`,
	} {
		if got := auth.BasicChallenge(realm); got != want {
			t.Errorf("%q: got %s, want %s", realm, got, want)
		}
	}
}

func TestBearerChallenge(t *testing.T) {
	for _, test := range []struct {
		c    auth.BearerChallenge
		want string
	}{
		{auth.BearerChallenge{Realm: "https://r/token"}, `Bearer realm="https://r/token"`},
		{
			auth.BearerChallenge{Realm: "https://r/token", Service: "s", Scope: "repository:a:pull,push", Error: "insufficient_scope"},
			`Bearer realm="https://r/token",service="s",scope="repository:a:pull,push",error="insufficient_scope"`,
		},
		{auth.BearerChallenge{Realm: "r", Error: "invalid_token"}, `Bearer realm="r",error="invalid_token"`},
	} {
		if got := test.c.String(); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
}

func TestScope(t *testing.T) {
	for _, test := range []struct {
		want  string
		asked []auth.Access
	}{
		{"", nil},
		{"", []auth.Access{{Action: auth.Pull}}},
		{"registry:catalog:*", []auth.Access{{Action: auth.List}}},
		{"repository:a/b:pull", []auth.Access{{Action: auth.Pull, Repository: "a/b"}}},
		{"repository:a:pull,push", []auth.Access{{Action: auth.Push, Repository: "a"}, {Action: auth.Pull, Repository: "a"}}},
		{"repository:a:pull,push", []auth.Access{{Action: auth.Push, Repository: "a"}, {Action: auth.Pull, Repository: "a"}, {Action: auth.Push, Repository: "a"}}},
		{"repository:a:pull,push repository:b:pull", []auth.Access{
			{Action: auth.Pull, Repository: "b"}, {Action: auth.Push, Repository: "a"}, {Action: auth.Pull, Repository: "a"},
		}},
		{"repository:a:pull,delete,list", []auth.Access{
			{Action: auth.List, Repository: "a"}, {Action: auth.Delete, Repository: "a"}, {Action: auth.Pull, Repository: "a"},
		}},
		{"registry:admin:* registry:catalog:* registry:metrics:* repository:a:pull", []auth.Access{
			{Action: auth.Metrics}, {Action: auth.Pull, Repository: "a"}, {Action: auth.List}, {Action: auth.Admin},
		}},
	} {
		for range 5 { // the order of what is asked for does not matter
			if got := auth.Scope(test.asked...); got != test.want {
				t.Errorf("%v: got %q, want %q", test.asked, got, test.want)
			}
			rand.Shuffle(len(test.asked), func(i, j int) { test.asked[i], test.asked[j] = test.asked[j], test.asked[i] })
		}
	}
}

// FuzzChallenge reads every challenge back by the grammar of RFC 9110, section 11.3.
func FuzzChallenge(f *testing.F) {
	f.Add("https://r/token", "service", "repository:a:pull,push", "invalid_token")
	f.Add(`a"b`, `\`, "x,y=\"z\"", "\r\n")
	f.Add("", "", "", "ä\x00")
	f.Fuzz(func(t *testing.T, realm, service, scope, code string) {
		got := auth.BearerChallenge{Realm: realm, Service: service, Scope: scope, Error: code}.String()
		if strings.ContainsFunc(got, func(c rune) bool { return c < ' ' || c >= 0x7f }) {
			t.Fatalf("%q cannot stand in a header", got)
		}
		params, err := parseChallenge(strings.TrimPrefix(got, "Bearer "))
		if err != nil {
			t.Fatalf("%s: %v", got, err)
		}
		for name, value := range map[string]string{"realm": realm, "service": service, "scope": scope, "error": code} {
			parsed, ok := params[name]
			if parsed != printable(value) || ok != (value != "" || name == "realm") {
				t.Errorf("%s: the %s is %q, want %q", got, name, parsed, printable(value))
			}
		}
	})
}

func printable(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c < ' ' || c >= 0x7f {
			b[i] = ' '
		}
	}
	return string(b)
}

// parseChallenge parses name=quoted-string, separated by commas.
func parseChallenge(s string) (map[string]string, error) {
	params := make(map[string]string)
	for {
		name, rest, ok := strings.Cut(s, `="`)
		if !ok || strings.ContainsAny(name, `",= `) {
			return nil, fmt.Errorf("no parameter at %q", s)
		}
		var value []byte
		closed := false
		i := 0
		for ; i < len(rest) && !closed; i++ {
			switch c := rest[i]; {
			case c == '"':
				closed = true
			case c == '\\' && i+1 < len(rest):
				i++
				value = append(value, rest[i])
			default:
				value = append(value, c)
			}
		}
		if !closed {
			return nil, fmt.Errorf("the quotes of %s do not end", name)
		}
		params[name] = string(value)
		if s = rest[i:]; s == "" {
			return params, nil
		}
		if s[0] != ',' {
			return nil, fmt.Errorf("%q follows %s", s, name)
		}
		s = s[1:]
	}
}
