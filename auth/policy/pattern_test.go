package policy

import (
	"regexp"
	"strings"
	"testing"
)

func TestPattern(t *testing.T) {
	for _, test := range []struct{ pattern, matches, not string }{
		{"**", "a a/b a/b/c", ""},
		{"a", "a", "b a/b aa"},
		{"a/b", "a/b", "a a/b/c a/bb b/a/b"},
		{"team-a/**", "team-a/x team-a/x/y", "team-a team-ab/x team-b/x x/team-a/y"},
		{"*", "a abc", "a/b"},
		{"*/public", "a/public b/public", "public a/b/public a/publics"},
		{"*/*", "a/b", "a a/b/c"},
		{"team-*/app", "team-a/app team-/app", "team/app team-a/b/app"},
		{"**/cache", "cache a/cache a/b/cache", "a/cache/b acache"},
		{"a/**/b", "a/b a/x/b a/x/y/b a/b/b", "a b a/x a/b/x"},
		{"**/b/**", "b/x a/b/x a/b/b", "b a/b x"},
		{"*/**", "a/b a/b/c", "a"},
		{"**/*", "a a/b a/b/c", ""},
		{"**/**", "a a/b", ""},
		{"a*b*c/**", "abc/x axbyc/x/y", "abc ab/x abcd/x"},
		{"**/a/b/**/c", "a/b/c x/a/b/c a/a/b/x/c a/b/a/b/c", "a/c b/c a/b"},
		{"v1.2_x-y", "v1.2_x-y", "v102_x-y"},
	} {
		p, err := ParsePattern(test.pattern)
		if err != nil {
			t.Errorf("%s: %v", test.pattern, err)
			continue
		}
		for name := range strings.FieldsSeq(test.matches) {
			if !p.Match(name) {
				t.Errorf("%s does not match %s", test.pattern, name)
			}
		}
		for name := range strings.FieldsSeq(test.not) {
			if p.Match(name) {
				t.Errorf("%s matches %s", test.pattern, name)
			}
		}
		if p.Match("") {
			t.Errorf("%s matches the registry as a whole", test.pattern)
		}
		if p.String() != test.pattern {
			t.Errorf("%s is printed as %s", test.pattern, p)
		}
	}
}

func TestPatternRefused(t *testing.T) {
	for pattern, want := range map[string]string{
		"":                       "1 to 255 bytes",
		strings.Repeat("a", 256): "1 to 255 bytes",
		"/a":                     "empty",
		"a/":                     "empty",
		"a//b":                   "empty",
		"a/**b":                  "of its own",
		"***":                    "of its own",
		"Team/**":                "'T'",
		"a b":                    "' '",
		"a:b":                    "':'",
		"{a,b}":                  "'{'",
		"a?":                     "'?'",
		"^a$":                    "'^'",
		"../a/\x00":              "'\\x00'",
	} {
		if _, err := ParsePattern(pattern); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want an error with %s", pattern, err, want)
		}
	}
}

// oracle says in another way what a pattern means.
func oracle(pattern string) *regexp.Regexp {
	components := strings.Split(pattern, "/")
	var b strings.Builder
	b.WriteString("^")
	for i, c := range components {
		last := i == len(components)-1
		switch {
		case c == "**" && last:
			b.WriteString("[^/]+(/[^/]+)*")
		case c == "**":
			b.WriteString("([^/]+/)*")
		default:
			b.WriteString(strings.ReplaceAll(regexp.QuoteMeta(c), `\*`, "[^/]*"))
			if !last {
				b.WriteString("/")
			}
		}
	}
	return regexp.MustCompile(b.String() + "$")
}

var wellFormed = regexp.MustCompile(`^[a-z0-9._-]+(/[a-z0-9._-]+)*$`)

func FuzzPattern(f *testing.F) {
	for _, seed := range [][2]string{
		{"**", "a/b"}, {"a/**", "a"}, {"**/b/**", "a/b/c"}, {"a*a*a/**/b", "aaa/x/b"}, {"**/a/b/**/c", "a/a/b/x/c"}, {"*/x", "y/x"},
		{"**/*a*/**/b/**/c", "a/b/b/c/c"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		p, err := ParsePattern(pattern)
		if err != nil || len(name) > 255 || !wellFormed.MatchString(name) {
			return
		}
		if got, want := p.Match(name), oracle(pattern).MatchString(name); got != want {
			t.Errorf("%s on %s: got %t, want %t", pattern, name, got, want)
		}
	})
}

func TestGlobIsNotExponential(t *testing.T) {
	pattern := strings.Repeat("a*", 60) + "b"
	if glob(pattern, strings.Repeat("a", 255)) {
		t.Error("matches")
	}
	p, err := ParsePattern(strings.Repeat("**/a/", 40) + "b")
	if err != nil {
		t.Fatal(err)
	}
	if p.Match(strings.Repeat("a/", 120) + "a") {
		t.Error("matches")
	}
}
