package strict

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// A Schema is what a file may have.
type Schema struct {
	Section  reflect.Type // the struct of the whole file
	Prefix   string       // of the variables that are written over it, such as "REGISTRY_"
	NotKeys  []string     // variables with the prefix that are for no key
	Foreign  []Foreign
	Renamed  []Renamed
	Variable []Renamed // parts of keys that have another name in variables

	// Check looks for what tags cannot express. It is called with each section once that was decoded; a key whose value could
	// not be read then has its default. Nil: nothing is looked for.
	Check func(section any, c Checking)
}

// A Field is one key of a section, as its struct declares it.
type Field struct {
	Key     string
	Type    reflect.Type
	Initial string   // the default, written as in the file
	Enum    []string // nil: anything
	Min     string   // written as in the file
	Choice  string
	Example string
	Name    string // in Go, for its doc comment
	index   int    // in the struct
}

// Fields returns the keys of a section.
func Fields(section reflect.Type) []Field {
	var all []Field
	for i := range section.NumField() {
		f := section.Field(i)
		if !f.IsExported() {
			continue
		}
		one := Field{
			Key: f.Tag.Get("yaml"), index: i, Type: f.Type, Name: f.Name,
			Initial: f.Tag.Get("default"), Min: f.Tag.Get("min"), Choice: f.Tag.Get("choice"), Example: f.Tag.Get("example"),
		}
		if enum := f.Tag.Get("enum"); enum != "" {
			one.Enum = strings.Split(enum, "|")
		}
		all = append(all, one)
	}
	return all
}

func findField(section reflect.Type, key string) (Field, bool) {
	for _, f := range Fields(section) {
		if f.Key == key {
			return f, true
		}
	}
	return Field{}, false
}

// SectionType returns the struct behind t, if t is one or points to one.
func SectionType(t reflect.Type) (reflect.Type, bool) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t, t.Kind() == reflect.Struct && t != reflect.TypeFor[Secret]()
}

// foreignType stands for the type of what no section has.
var foreignType = reflect.TypeFor[any]()

// below returns the type of what a key names in t.
func below(t reflect.Type, key string) reflect.Type {
	if section, ok := SectionType(t); ok {
		if f, ok := findField(section, key); ok {
			return f.Type
		}
	}
	if t.Kind() == reflect.Map {
		return t.Elem()
	}
	return foreignType
}

// Keys calls yield with the full key and the declaration of every key below section, those of sections before those in
// them. An element of a list is written "[]".
func Keys(section reflect.Type, prefix string, yield func(path string, f Field)) {
	for _, f := range Fields(section) {
		path := Join(prefix, f.Key)
		yield(path, f)
		t, suffix := f.Type, ""
		if t.Kind() == reflect.Slice {
			t, suffix = t.Elem(), "[]"
		}
		if inner, ok := SectionType(t); ok {
			Keys(inner, path+suffix, yield)
		}
	}
}

var plainKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// Join returns the full key of a key in the section at path.
func Join(path, key string) string {
	if !plainKey.MatchString(key) {
		key = Quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// VariableOf returns the name of the variable for a full key.
func (s *Schema) VariableOf(path string) string { return s.Prefix + spelled(path) }

// spelled is how the name of a variable has a full key.
func spelled(path string) string {
	return strings.ToUpper(strings.NewReplacer("[]", "_0", ".", "_").Replace(path))
}

// known returns every full key that may be written, in order.
func (s *Schema) known() []string {
	var all []string
	Keys(s.Section, "", func(path string, _ Field) { all = append(all, path) })
	for _, f := range s.Foreign {
		all = append(all, f.Key)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Nearest returns the candidate with the least edit distance from what was written.
func Nearest(written string, candidates []string) string {
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
