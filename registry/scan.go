package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	// maxDepth bounds the nesting of a manifest's JSON.
	maxDepth = 64
	// maxElements bounds the elements of all its lists together: one of two bytes takes a hundred times that in memory. 4
	// MiB hold fewer descriptors.
	maxElements = 50_000
	// maxMembers bounds the members of all its objects, when it is pushed, for the same reason: so many descriptors have fewer.
	maxMembers = 4 * maxElements
)

// A scan is what one pass over the JSON of a manifest finds, whatever its type.
type scan struct {
	digests []Digest // every string that parses as one: what the manifest keeps from being collected
	variant string   // a member that readers which ignore case take for one with a meaning in manifests; "": none

	open     []scope
	name     string // of the member whose value comes next
	elements int    // of lists
	left     int    // how many more members there may be
}

// A scope is an object or a list that is open.
type scope struct {
	members map[string]bool // of an object; nil: a list
	free    bool            // its members are named as the user likes
}

// scanJSON checks that body is one JSON object, nested at most maxDepth deep, with at most maxElements in its lists and so many
// members in all, in which no object has two members of a name.
func scanJSON(body []byte, members int) (*scan, error) {
	s := &scan{left: members}
	isKey := false
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	for first := true; ; first = false {
		token, err := decoder.Token()
		switch {
		case err == io.EOF && first:
			return nil, errors.New("it is empty")
		case err == io.EOF && len(s.open) == 0:
			return s, nil
		case err != nil:
			return nil, noEOF(err)
		case first && token != json.Delim('{'), !first && len(s.open) == 0:
			return nil, errors.New("it is not one object")
		}
		if isKey && token != json.Delim('}') {
			err, isKey = s.member(token), false
		} else {
			err = s.value(token)
			isKey = len(s.open) > 0 && s.open[len(s.open)-1].members != nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// member takes the name of a member.
func (s *scan) member(token json.Token) error {
	s.name, _ = token.(string)
	s.note(s.name)
	in := s.open[len(s.open)-1]
	if in.members[s.name] {
		return fmt.Errorf("it has two members named %q", clip(s.name))
	}
	if s.left--; s.left < 0 {
		return fmt.Errorf("its objects have more than %d members", maxMembers)
	}
	in.members[s.name] = true
	if !in.free && isVariant(s.name) {
		s.variant = s.name
	}
	return nil
}

// value takes a value, or the beginning or end of one.
func (s *scan) value(token json.Token) error {
	if len(s.open) > 0 && s.open[len(s.open)-1].members == nil {
		if s.elements++; s.elements > maxElements { // the end of a list counts as well
			return fmt.Errorf("its lists have more than %d elements", maxElements)
		}
	}
	switch t := token.(type) {
	case string:
		s.note(t)
	case json.Delim:
		switch {
		case t == '}' || t == ']':
			s.open = s.open[:len(s.open)-1]
		case len(s.open) >= maxDepth:
			return fmt.Errorf("it is nested more than %d deep", maxDepth)
		case t == '{':
			s.open = append(s.open, scope{map[string]bool{}, s.name == "annotations"})
		default:
			s.open = append(s.open, scope{})
		}
	}
	s.name = ""
	return nil
}

func (s *scan) note(text string) {
	if strings.HasPrefix(text, string(SHA256)) || strings.HasPrefix(text, string(SHA512)) {
		if d, err := ParseDigest(text); err == nil {
			s.digests = append(s.digests, d)
		}
	}
}

// isVariant reports whether encoding/json and its like take name for a member that has a meaning in manifests, and
// readers that compare bytes do not. Case folding is that of Unicode: the long s is an s.
func isVariant(name string) bool {
	for _, known := range [...]string{"schemaVersion", "mediaType", "artifactType", "config", "layers", "blobs", "manifests", "subject",
		"annotations", "digest", "size", "urls", "data", "platform", "architecture", "os"} {
		if name != known && strings.EqualFold(name, known) {
			return true
		}
	}
	return false
}
