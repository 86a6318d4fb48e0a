package strict

import (
	"reflect"
	"slices"
	"strings"
)

// A Verdict says what becomes of a key that is known from another registry and has no meaning here.
type Verdict uint8

// The verdicts.
const (
	Accepted Verdict = iota // it asks for what is so anyhow
	Ignored                 // leaving it out harms nobody: one warning
	Refused                 // it restricts access or changes what the server is: an error
)

// A Foreign is a key, with all below it, that is known from elsewhere and has no meaning here.
//
// A value that asks for nothing (none, empty, 0 or false, a list of what is disabled) is accepted in silence whatever the
// verdict; so is, instead of these, the value in Unless. Choice marks an alternative of its section, which asks for
// something by being there.
type Foreign struct {
	Key     string // in full
	Verdict Verdict
	Choice  bool
	Unless  string
	Why     string
}

// A Renamed is a key or a section that has another name elsewhere, where it means the same.
type Renamed struct {
	Other, Key string // in full
	Old        bool   // a warning says that Other is an old name, and it yields to the key where both are given
}

// rename gives keys under another name the name that they have here. One under both names is an error, unless the other is old.
func (d *Document) rename() {
	for _, n := range d.schema.Renamed {
		path := strings.Split(n.Other, ".")
		parent, last := d.Root, path[len(path)-1]
		for _, key := range path[:len(path)-1] {
			parent = parent.Get(key)
		}
		if parent == nil {
			continue
		}
		for _, e := range parent.entries {
			if e.key == last {
				d.renameOne(n, e.value)
			}
		}
		parent.remove(last)
	}
}

func (d *Document) renameOne(n Renamed, value *Tree) {
	if n.Old {
		d.Warn(value.source, n.Other, "is an old name of %s", n.Key)
	}
	if value.kind == null {
		return
	}
	switch at := d.Root.addAll(n.Key, value.source); {
	case at.kind == null:
		*at = *value
	case !n.Old:
		d.Fail(value.source, n.Other, "is another name of %s (%s); keep one", n.Key, at.source)
	}
}

// choices returns the keys that are alternatives of a section, also those that are not implemented.
func (s *Schema) choices(path string, section reflect.Type) []string {
	var all []string
	for _, f := range s.fields(section) {
		if f.Choice != "" {
			all = append(all, f.Key)
		}
	}
	for _, f := range s.Foreign {
		if key, ok := strings.CutPrefix(f.Key, path+"."); ok && f.Choice {
			all = append(all, key)
		}
	}
	return all
}

// foreign judges a key that no section has.
func (d *decoder) foreign(t *Tree, path string) {
	i := slices.IndexFunc(d.schema.Foreign, func(f Foreign) bool { return f.Key == path })
	if i < 0 {
		d.foreignSection(t, path)
		return
	}
	f := d.schema.Foreign[i]
	asking := f.asks(t)
	if asking == nil {
		return
	}
	switch f.Verdict {
	case Ignored:
		d.Warn(asking.source, path, "ignored: %s", f.Why)
	case Refused:
		d.Fail(asking.source, path, "%s", f.Why)
	}
}

// foreignSection judges a key that has no row of its own: either rows lie below it, or it is unknown.
func (d *decoder) foreignSection(t *Tree, path string) {
	rowsBelow := slices.ContainsFunc(d.schema.Foreign, func(f Foreign) bool { return strings.HasPrefix(f.Key, path+".") })
	switch {
	case !rowsBelow && !d.full():
		d.Fail(t.source, path, "unknown key; the nearest is %s", Nearest(withoutIndices(path), d.schema.learn().keys))
	case t.kind == mapping:
		for _, e := range t.entries {
			d.foreign(e.value, Join(path, e.key))
		}
	case t.kind != null:
		d.Fail(t.source, path, "must be a section such as {key: value}, not %v", t)
	}
}

// asks returns the first value in t that asks for something, or nil.
func (f Foreign) asks(t *Tree) *Tree {
	if f.Choice {
		return t
	}
	for _, e := range t.entries {
		if asking := f.asks(e.value); asking != nil {
			return asking
		}
	}
	switch {
	case t.kind == list:
		if slices.ContainsFunc(t.items, func(item *Tree) bool { return !item.disabled() }) {
			return t
		}
		return nil
	case t.kind != scalar:
		return nil
	case f.Unless != "" && !strings.EqualFold(t.text, f.Unless):
		return t
	case f.Unless == "" && !slices.Contains([]string{"", "0", "false", "no", "off"}, strings.ToLower(t.text)):
		return t
	}
	return nil
}

// disabled reports whether t is an element of a list, as an endpoint, that says it is off.
func (t *Tree) disabled() bool {
	off := t.Get("disabled")
	if off == nil {
		return false
	}
	is, err := parseBool(off.text)
	return err == nil && is
}

// withoutIndices writes the elements of lists in a full key as [Schema.known] does.
func withoutIndices(path string) string {
	var out strings.Builder
	inside := false
	for _, r := range path {
		inside = inside && r != ']'
		if !inside {
			out.WriteRune(r)
		}
		inside = inside || r == '['
	}
	return out.String()
}
