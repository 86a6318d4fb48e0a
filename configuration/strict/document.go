// Package strict reads a YAML file, and environment variables over it, into a struct: whatever it does not know is an error that says
// where it stands and what is nearest. It knows nothing of what the file is for.
//
// A struct is a section, and its exported fields are the keys, described by their tags:
//
//	yaml     the key
//	default  the value when it is absent, written as in the file
//	enum     the values allowed, separated by "|", compared without regard to case
//	min      the least number, size or duration; without it the least is 0
//	choice   the key is one of the alternatives of its section, of which one may be present; "required" if one must be
//	example  what an example shows for a key without a default
package strict

import "fmt"

// A Document is a file that is being read: [Schema.Parse], [Document.Override], [Document.Decode], in this order.
type Document struct {
	Root *Tree
	*Report
	schema *Schema
	name   string // of the file, the source of what is missing
}

// Parse reads the bytes of a file of the given name.
func (s *Schema) Parse(name string, data []byte) (*Document, error) {
	root, err := parseYAML(data, func(line int) string { return fmt.Sprintf("%s:%d", name, line) })
	if err != nil {
		return nil, err
	}
	d := &Document{Root: root, Report: &Report{}, schema: s, name: name}
	d.rename()
	return d, nil
}
