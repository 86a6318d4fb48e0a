package strict

import (
	"cmp"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
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

	once    sync.Once
	learned learned
}

// learned is what follows from a schema, worked out once.
type learned struct {
	fields    map[reflect.Type][]Field // by section
	keys      []string                 // every full key that may be written, in order
	variables []string                 // every variable that may be set
	foreign   []string                 // how variables spell Foreign, in its order
}

func (s *Schema) learn() *learned {
	s.once.Do(func() {
		l := &s.learned
		l.fields = map[reflect.Type][]Field{s.Section: Fields(s.Section)}
		Keys(s.Section, "", func(path string, f Field) {
			l.keys = append(l.keys, path)
			t := f.Type
			if t.Kind() == reflect.Slice {
				t = t.Elem()
			}
			if section, ok := SectionType(t); ok {
				l.fields[section] = Fields(section)
			}
		})
		for _, f := range s.Foreign {
			l.keys = append(l.keys, f.Key)
			l.foreign = append(l.foreign, spelled(f.Key))
		}
		slices.Sort(l.keys)
		l.keys = slices.Compact(l.keys)
		for _, key := range l.keys {
			l.variables = append(l.variables, s.VariableOf(key))
		}
	})
	return &s.learned
}

// fields is Fields, remembered.
func (s *Schema) fields(section reflect.Type) []Field {
	if known, ok := s.learn().fields[section]; ok {
		return known
	}
	return Fields(section)
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

func (s *Schema) findField(section reflect.Type, key string) (Field, bool) {
	for _, f := range s.fields(section) {
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
func (s *Schema) below(t reflect.Type, key string) reflect.Type {
	if section, ok := SectionType(t); ok {
		if f, ok := s.findField(section, key); ok {
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

var spelling = strings.NewReplacer("[]", "_0", ".", "_")

// spelled is how the name of a variable has a full key.
func spelled(path string) string {
	return strings.ToUpper(spelling.Replace(path))
}

// Nearest returns the candidate with the least edit distance from what was written, or the shortest one that begins with that, if
// none is within a letter.
func Nearest(written string, candidates []string) string {
	best, least := "", compared+1
	for _, c := range candidates {
		if d := distance(written, c, least); d < least {
			best, least = c, d
		}
	}
	if least <= 1 {
		return best
	}
	longer := ""
	for _, c := range candidates {
		if strings.HasPrefix(c, written) && (longer == "" || len(c) < len(longer)) {
			longer = c
		}
	}
	return cmp.Or(longer, best)
}

// compared is how many bytes of what was written, and of a candidate, count.
const compared = 80

// distance is the Levenshtein distance between a and b, in which two letters that changed places count once, or something from bound
// on when it is no less than that.
func distance(a, b string, bound int) int {
	a, b = a[:min(len(a), compared)], b[:min(len(b), compared)]
	if apart := max(len(a)-len(b), len(b)-len(a)); apart >= bound {
		return apart
	}
	var room [3][compared + 1]int
	before, row, next := room[0][:len(b)+1], room[1][:len(b)+1], room[2][:len(b)+1]
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		if min(slices.Min(before), slices.Min(row)) >= bound {
			return bound
		}
		next[0] = i + 1
		for j := range len(b) {
			cost := row[j]
			if a[i] != b[j] {
				cost++
			}
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				cost = min(cost, before[j-1]+1)
			}
			next[j+1] = min(cost, next[j]+1, row[j+1]+1)
		}
		before, row, next = row, next, before
	}
	return row[len(b)]
}
