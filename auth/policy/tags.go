package policy

import (
	"errors"
	"fmt"
	"strings"
)

// A TagRule makes tags immutable: once there, they are neither moved nor deleted, by anybody.
type TagRule struct {
	Repositories string   // a [Pattern]
	Tags         []string // patterns in which "*" stands for any characters, or none
}

// ImmutableTags tells which tags are immutable. It never changes. A nil *ImmutableTags has none.
type ImmutableTags struct {
	rules []tagRule
}

type tagRule struct {
	repositories *Pattern
	tags         []string
}

// NewImmutableTags compiles rules. Errors name the rule, counted from 1.
func NewImmutableTags(rules ...TagRule) (*ImmutableTags, error) {
	t := new(ImmutableTags)
	for i, r := range rules {
		pattern, err := ParsePattern(r.Repositories)
		if err == nil {
			err = checkTags(r.Tags)
		}
		if err != nil {
			return nil, fmt.Errorf("the rule number %d for immutable tags: %w", i+1, err)
		}
		t.rules = append(t.rules, tagRule{pattern, r.Tags})
	}
	return t, nil
}

func checkTags(patterns []string) error {
	if len(patterns) == 0 {
		return errors.New("tags are required")
	}
	for _, p := range patterns {
		if p == "" || len(p) > 128 || strings.ContainsFunc(p, notInTag) {
			return fmt.Errorf(`the pattern %q for tags must be 1 to 128 letters, digits, "_", ".", "-" and "*"`, p)
		}
	}
	return nil
}

func notInTag(c rune) bool {
	return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("_.-*", c))
}

// Immutable reports whether a tag of a repository is immutable.
func (t *ImmutableTags) Immutable(repository, tag string) bool {
	if t == nil {
		return false
	}
	for i := range t.rules {
		r := &t.rules[i]
		if !r.repositories.Match(repository) {
			continue
		}
		for _, pattern := range r.tags {
			if glob(pattern, tag) {
				return true
			}
		}
	}
	return false
}

// Naming is what names repositories may have, beyond being well formed. The zero Naming takes them all.
type Naming struct {
	MaxDepth    int  // components, at most; 0 for any number
	ProjectName bool // exactly <project>/<name>
}

// ErrNaming is what the errors of [Naming.Check] match.
var ErrNaming = errors.New("the name of the repository is not allowed here")

// Check says why a repository that is to be created cannot have a name, if so.
func (n Naming) Check(repository string) error {
	depth := strings.Count(repository, "/") + 1
	switch {
	case n.ProjectName && depth != 2:
		return fmt.Errorf("%w: it must be of the form <project>/<name>, and has %d components", ErrNaming, depth)
	case n.MaxDepth > 0 && depth > n.MaxDepth:
		return fmt.Errorf("%w: it has %d components, at most %d are allowed", ErrNaming, depth, n.MaxDepth)
	}
	return nil
}
