package configuration

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// A field is one key of a section, as its struct declares it.
type field struct {
	key     string
	index   int // in the struct
	typ     reflect.Type
	initial string // written as in the file
	enum    []string
	min     string
	choice  string
	example string
	name    string // in Go, for its doc comment
}

// fields returns the keys of a section.
func fields(section reflect.Type) []field {
	var all []field
	for i := range section.NumField() {
		f := section.Field(i)
		if !f.IsExported() {
			continue
		}
		one := field{
			key: f.Tag.Get("yaml"), index: i, typ: f.Type, name: f.Name,
			initial: f.Tag.Get("default"), min: f.Tag.Get("min"), choice: f.Tag.Get("choice"), example: f.Tag.Get("example"),
		}
		if enum := f.Tag.Get("enum"); enum != "" {
			one.enum = strings.Split(enum, "|")
		}
		all = append(all, one)
	}
	return all
}

func findField(section reflect.Type, key string) (field, bool) {
	for _, f := range fields(section) {
		if f.key == key {
			return f, true
		}
	}
	return field{}, false
}

// sectionType returns the struct behind t, if t is one or points to one.
func sectionType(t reflect.Type) (reflect.Type, bool) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t, t.Kind() == reflect.Struct && t != reflect.TypeFor[Secret]()
}

// foreignType stands for the type of what no section has.
var foreignType = reflect.TypeFor[any]()

// below returns the type of what a key names in t.
func below(t reflect.Type, key string) reflect.Type {
	if section, ok := sectionType(t); ok {
		if f, ok := findField(section, key); ok {
			return f.typ
		}
	}
	if t.Kind() == reflect.Map {
		return t.Elem()
	}
	return foreignType
}

// keys calls yield with the full key and the declaration of every key below section, those of sections before those in
// them. An element of a list is written "[]".
func keys(section reflect.Type, prefix string, yield func(path string, f field)) {
	for _, f := range fields(section) {
		path := join(prefix, f.key)
		yield(path, f)
		t, suffix := f.typ, ""
		if t.Kind() == reflect.Slice {
			t, suffix = t.Elem(), "[]"
		}
		if inner, ok := sectionType(t); ok {
			keys(inner, path+suffix, yield)
		}
	}
}

var plainKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func join(path, key string) string {
	if !plainKey.MatchString(key) {
		key = quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// variable returns the name of the variable for a full key.
func variable(path string) string {
	return "REGISTRY_" + strings.ToUpper(strings.NewReplacer("[]", "_0", ".", "_").Replace(path))
}

// known returns every full key that may be written, in order.
func known() []string {
	var all []string
	keys(reflect.TypeFor[Config](), "", func(path string, _ field) { all = append(all, path) })
	for _, f := range foreignKeys {
		all = append(all, f.path)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// nearest returns the candidate with the least edit distance from what was written.
func nearest(written string, candidates []string) string {
	best, least := "", -1
	for _, c := range candidates {
		if d := distance(written, c); least < 0 || d < least {
			best, least = c, d
		}
	}
	return best
}

// distance is the Levenshtein distance between a and b, of which no more than 80 bytes count.
func distance(a, b string) int {
	a, b = a[:min(len(a), 80)], b[:min(len(b), 80)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
