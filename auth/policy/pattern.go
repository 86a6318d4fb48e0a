package policy

import (
	"errors"
	"fmt"
	"strings"
)

// maxPattern bounds a pattern, in bytes: repository names are not longer.
const maxPattern = 255

// A Pattern stands for names of repositories. It is a name in whose components "*" stands for any characters, or none,
// and in which a whole component "**" stands for any number of components, or none; at the end, for one or more:
//
//	**              every repository
//	team-a/**       every repository below team-a, at any depth, and not a repository team-a itself
//	*/public        public in every project
//	**/cache        every repository that is named cache, at any depth
//	team-*/app      app in every project whose name begins with team-
//
// Everything else stands for itself. A Pattern is made by [ParsePattern].
type Pattern struct {
	text       string
	form       form
	literal    string // the text before "**", or the name, as form says
	components []string
}

// A form is how a pattern is matched: most are of a kind that takes a single comparison.
type form uint8

const (
	everything form = iota // **
	below                  // literal, which ends in a slash, then **
	exactly                // literal
	general
)

// ParsePattern parses a pattern. One that no name of a repository could match is an error.
func ParsePattern(text string) (*Pattern, error) {
	if text == "" || len(text) > maxPattern {
		return nil, fmt.Errorf("a pattern for repositories has 1 to %d bytes, this one has %d", maxPattern, len(text))
	}
	p := &Pattern{text: text, components: strings.Split(text, "/")}
	for _, c := range p.components {
		if err := checkComponent(c); err != nil {
			return nil, fmt.Errorf("the pattern %q for repositories: %w", text, err)
		}
	}
	prefix, wild := strings.CutSuffix(text, "**")
	switch {
	case text == "**":
		p.form = everything
	case !strings.Contains(text, "*"):
		p.form, p.literal = exactly, text
	case wild && !strings.Contains(prefix, "*"):
		p.form, p.literal = below, prefix
	default:
		p.form = general
	}
	return p, nil
}

func checkComponent(c string) error {
	switch {
	case c == "":
		return errors.New("a component is empty")
	case c != "**" && strings.Contains(c, "**"):
		return errors.New(`"**" must be a component of its own`)
	}
	for i := range len(c) {
		b := c[i]
		if ok := 'a' <= b && b <= 'z' || '0' <= b && b <= '9' || b == '.' || b == '_' || b == '-' || b == '*'; !ok {
			return fmt.Errorf("no name of a repository has the character %q", b)
		}
	}
	return nil
}

// String returns the pattern as it was written.
func (p *Pattern) String() string { return p.text }

// Match reports whether the pattern stands for a repository. It does not allocate, and takes time in proportion to the
// product of the lengths at most.
func (p *Pattern) Match(repository string) bool {
	switch p.form {
	case everything:
		return repository != ""
	case below:
		return len(repository) > len(p.literal) && strings.HasPrefix(repository, p.literal)
	case exactly:
		return repository == p.literal
	}
	return matchPath(p.components, repository)
}

// matchPath matches component by component. When it fails behind a "**", that one takes a component more, and matching
// goes on from there; earlier ones need no second try, since the last can take all that they could.
func matchPath(components []string, name string) bool {
	rest, more := name, name != ""
	i, star := 0, -1
	starRest := ""
	for more {
		if i < len(components) && components[i] == "**" {
			if i == len(components)-1 {
				return true // one component at least is left
			}
			star, starRest = i, rest
			i++
			continue
		}
		if first, after, slash := strings.Cut(rest, "/"); i < len(components) && glob(components[i], first) {
			rest, more = after, slash
			i++
			continue
		}
		if star < 0 {
			return false
		}
		_, after, slash := strings.Cut(starRest, "/")
		starRest, rest, more = after, after, slash
		i = star + 1
	}
	return i == len(components)
}

// glob reports whether a pattern in which "*" stands for any bytes, or none, matches s.
func glob(pattern, s string) bool {
	i, j := 0, 0
	star, from := -1, 0
	for j < len(s) {
		switch {
		case i < len(pattern) && pattern[i] == '*':
			star, from = i, j
			i++
		case i < len(pattern) && pattern[i] == s[j]:
			i++
			j++
		case star >= 0:
			from++
			i, j = star+1, from
		default:
			return false
		}
	}
	for i < len(pattern) && pattern[i] == '*' {
		i++
	}
	return i == len(pattern)
}
