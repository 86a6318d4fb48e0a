package strict

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// maxNodes bounds what a document may grow to through its aliases, and with it the work of every walk.
const maxNodes = 100_000

type kind uint8

const (
	null kind = iota
	scalar
	list
	mapping
)

// A Tree is a YAML value that knows where it was written: "config.yml:12", or the name of a variable. Unlike yaml.Node
// it has no aliases, and its scalars have no types: what a text means is decided by the field it is for. A nil Tree is what was not
// written: all that it is asked for is missing.
type Tree struct {
	source  string
	kind    kind
	text    string  // of a scalar
	items   []*Tree // of a list
	entries []entry // of a mapping, as written: a key may occur twice

	chosen choice // of a section with alternatives
}

// A choice is what variables have made of a section with alternatives.
type choice struct {
	key      string // empty when no variable chose
	variable string
	explicit bool // by the section's own variable, not by one for a key below the alternative
}

type entry struct {
	key   string
	value *Tree
}

// parseYAML reads one document. source makes the source of a value from its line.
func parseYAML(data []byte, source func(line int) string) (*Tree, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, next yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return &Tree{source: source(1)}, nil
	}
	if err != nil {
		return nil, syntaxError(err, data, source)
	}
	if err := dec.Decode(&next); err == nil {
		return nil, &Error{Source: source(next.Line), Text: "a second document begins here; only one is read"}
	} else if !errors.Is(err, io.EOF) {
		return nil, syntaxError(err, data, source)
	}
	c := converter{source: source, left: maxNodes}
	t := c.tree(doc.Content[0], doc.Content[0].Line)
	if c.left < 0 {
		return nil, &Error{Source: source(1), Text: "too large, or an alias that contains itself"}
	}
	return t, nil
}

// syntaxError puts the line, which yaml reports within its text, where all other errors have it.
func syntaxError(err error, data []byte, source func(line int) string) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	var line int
	if _, scanErr := fmt.Sscanf(text, "line %d:", &line); scanErr == nil {
		_, text, _ = strings.Cut(text, ": ")
	}
	line = max(line, 1)
	text = "not valid YAML: " + strings.ReplaceAll(text, "\n", " ")
	if indentedByTab(data, line) {
		text += "; the line is indented by a tab, and YAML takes blanks only"
	}
	return &Error{Source: source(line), Text: text}
}

// indentedByTab reports whether there is a tab before the first letter of a line; the first line is 1.
func indentedByTab(data []byte, line int) bool {
	for range line - 1 {
		_, data, _ = bytes.Cut(data, []byte{'\n'})
	}
	indent := data[:len(data)-len(bytes.TrimLeft(data, " \t"))]
	return bytes.IndexByte(indent, '\t') >= 0
}

type converter struct {
	source func(line int) string
	left   int // how many more nodes may be made
}

// tree converts n. The line is that of the key in front of n, since a value may begin on a later one.
func (c *converter) tree(n *yaml.Node, line int) *Tree {
	t := &Tree{source: c.source(line)}
	if c.left--; c.left < 0 {
		return t
	}
	switch n.Kind {
	case yaml.AliasNode:
		return c.tree(n.Alias, line)
	case yaml.SequenceNode:
		t.kind = list
		for _, item := range n.Content {
			t.items = append(t.items, c.tree(item, item.Line))
		}
	case yaml.MappingNode:
		t.kind = mapping
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			t.entries = append(t.entries, entry{key.Value, c.tree(n.Content[i+1], key.Line)})
		}
	case yaml.ScalarNode:
		if n.ShortTag() != "!!null" {
			t.kind, t.text = scalar, n.Value
		}
	}
	return t
}

// Source says where t was written.
func (t *Tree) Source() string { return t.source }

// Text returns the text of a scalar, "" of all else.
func (t *Tree) Text() string {
	if t == nil {
		return ""
	}
	return t.text
}

// IsSection reports whether t has keys.
func (t *Tree) IsSection() bool { return t != nil && t.kind == mapping }

// Set adds a key to a section that has no such key.
func (t *Tree) Set(key string, value *Tree) { t.entries = append(t.entries, entry{key, value}) }

// DeleteItems takes out of a list what del is true of.
func (t *Tree) DeleteItems(del func(item *Tree) bool) {
	if t != nil {
		t.items = slices.DeleteFunc(t.items, del)
	}
}

// Get returns the value of a key, or nil.
func (t *Tree) Get(key string) *Tree {
	if t == nil {
		return nil
	}
	for _, e := range t.entries {
		if e.key == key {
			return e.value
		}
	}
	return nil
}

// add returns the value of a key, which is made null when there is none.
func (t *Tree) add(key, source string) *Tree {
	if found := t.Get(key); found != nil {
		return found
	}
	value := &Tree{source: source}
	t.entries = append(t.entries, entry{key, value})
	return value
}

// addAll is add for a full key, with the sections around it.
func (t *Tree) addAll(path, source string) *Tree {
	for key := range strings.SplitSeq(path, ".") {
		if t.kind == null {
			t.kind = mapping
		}
		t = t.add(key, source)
	}
	return t
}

func (t *Tree) remove(keys ...string) {
	t.entries = slices.DeleteFunc(t.entries, func(e entry) bool { return slices.Contains(keys, e.key) })
}

// named turns a section that is written as the name of one of its alternatives into one that has that key.
func (t *Tree) named() {
	if t.kind == scalar {
		*t = Tree{source: t.source, kind: mapping, entries: []entry{{t.text, &Tree{source: t.source}}}}
	}
}

// String describes a value for an error.
func (t *Tree) String() string {
	switch t.kind {
	case list:
		return "a list"
	case mapping:
		return "a section"
	case null:
		return "nothing"
	}
	return Quote(t.text)
}

// Quote shows a text on one line, cut when it is long.
func Quote(text string) string {
	const most = 60
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "…"
	}
	return fmt.Sprintf("%q", text)
}
