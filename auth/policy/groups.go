package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"gopkg.in/yaml.v3"

	"berth/auth/reload"
)

// maxGroups bounds a file of groups, in bytes.
const maxGroups = 4 << 20

// Groups are who is in which group, by a file. They never change; the zero Groups are none. They add to the groups that
// an authenticator knows of, and share their names.
type Groups struct {
	of map[string][]string // the groups of a user, sorted
}

// Of returns the groups of a user, in order of names.
func (g *Groups) Of(user string) []string { return slices.Clone(g.of[user]) }

// ParseGroups parses a file of groups: YAML, a mapping from the name of a group to the list of its users. Errors name the
// file and the line.
func ParseGroups(path string, data []byte) (*Groups, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) { // nothing but comments
			return &Groups{}, nil
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: there must be one document", path)
	}
	g := &Groups{of: make(map[string][]string)}
	if err := g.add(doc.Content[0]); err != nil {
		return nil, fmt.Errorf("%s:%w", path, err)
	}
	for _, groups := range g.of {
		slices.Sort(groups)
	}
	return g, nil
}

func (g *Groups) add(root *yaml.Node) error {
	if root.ShortTag() == "!!null" {
		return nil
	}
	if root.Kind != yaml.MappingNode {
		return fmt.Errorf("%d: it must be a mapping from groups to lists of users", root.Line)
	}
	seen := make(map[string]bool)
	for i := 0; i < len(root.Content); i += 2 {
		key, users := root.Content[i], root.Content[i+1]
		switch name, ok := text(key); {
		case !ok:
			return fmt.Errorf("%d: the name of a group must be text", key.Line)
		case seen[name]:
			return fmt.Errorf("%d: the group %q is there already", key.Line, name)
		case users.ShortTag() == "!!null":
			seen[name] = true
		case users.Kind != yaml.SequenceNode:
			return fmt.Errorf("%d: the group %q must be a list of users", users.Line, name)
		default:
			seen[name] = true
			if err := g.fill(name, users.Content); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *Groups) fill(group string, users []*yaml.Node) error {
	for _, n := range users {
		user, ok := text(n)
		if !ok {
			return fmt.Errorf("%d: a user of the group %q must be text", n.Line, group)
		}
		if !slices.Contains(g.of[user], group) {
			g.of[user] = append(g.of[user], group)
		}
	}
	return nil
}

// text returns a scalar as it is written: the user 007 is no number.
func text(n *yaml.Node) (string, bool) {
	return n.Value, n.Kind == yaml.ScalarNode && n.Value != "" && n.ShortTag() != "!!null"
}

// OpenGroups reads a file of groups and keeps it up to date.
func OpenGroups(path string, o *reload.Options) (*reload.File[*Groups], error) {
	f, err := reload.Open(path, maxGroups, ParseGroups, o)
	if err != nil {
		return nil, fmt.Errorf("read the groups: %w", err)
	}
	return f, nil
}
