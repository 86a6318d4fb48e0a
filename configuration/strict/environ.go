package strict

import (
	"cmp"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Override writes the variables of environ ("NAME=value") that begin with the prefix of the schema into the document, by the types
// of the keys they name. read reads the file that a variable for a secret names.
func (d *Document) Override(environ []string, read func(file string) ([]byte, error)) {
	e := environment{Document: d, read: read}
	e.apply(environ)
	d.rename() // of a variable for the section around
}

// An environment writes variables into a document.
type environment struct {
	*Document
	read func(file string) ([]byte, error)
}

// A setting is one variable.
type setting struct{ name, value string }

// apply takes the variables in the order of their names, so that a section comes before what is in it. Of two with the
// same name the last counts.
func (e *environment) apply(environ []string) {
	byName := map[string]string{}
	var names []string
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, e.schema.Prefix) && !slices.Contains(e.schema.NotKeys, name) {
			byName[name] = value
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(padded(a), padded(b)), cmp.Compare(a, b)) })
	for _, name := range slices.Compact(names) {
		e.set(setting{name, byName[name]})
	}
}

// padded makes the indices in a name compare as numbers.
func padded(name string) string {
	parts := strings.Split(name, "_")
	for i, part := range parts {
		if _, err := strconv.ParseUint(part, 10, 16); err == nil {
			parts[i] = strings.Repeat("0", max(0, 5-len(part))) + part
		}
	}
	return strings.Join(parts, "_")
}

// kubernetes matches the variables that Kubernetes and Docker links make for a service that is called as the
// prefix is, or begins so.
var kubernetes = regexp.MustCompile(
	`^(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

func (s setting) isKubernetes(prefix string) bool {
	return kubernetes.MatchString(strings.TrimPrefix(s.name, prefix)) || strings.HasSuffix(s.name, "_PORT") && strings.Contains(s.value, "://")
}

func (e *environment) set(s setting) {
	if !utf8.ValidString(s.name) || strings.ContainsFunc(s.name, unicode.IsControl) {
		e.Warn(Quote(s.name), "", "ignored: no key has such a name")
		return
	}
	if !utf8.ValidString(s.value) {
		e.Fail(s.name, "", "is not UTF-8")
		return
	}
	rest := e.schema.keyName(s.name)
	if path, leaf, ok := e.schema.resolve(e.schema.Section, rest); ok {
		e.write(path, s, e.literal(s, leaf))
		return
	}
	if stem, ok := strings.CutSuffix(rest, "_FILE"); ok {
		if path, leaf, ok := e.schema.resolve(e.schema.Section, stem); ok && leaf == reflect.TypeFor[Secret]() {
			e.write(path, s, e.secretFile(s, path))
			return
		}
	}
	if s.isKubernetes(e.schema.Prefix) {
		return
	}
	if path := e.schema.foreignPath(rest); path != nil {
		e.write(path, s, s.guess())
		return
	}
	if len(e.Warnings) < maxErrors {
		e.Warn(s.name, "", "unknown variable; the nearest is %s", Nearest(s.name, e.schema.learn().variables))
	}
}

// write puts a value where its variable says, unless it could not be read.
func (e *environment) write(path []string, s setting, value *Tree) {
	if value != nil {
		e.put(e.Root, e.schema.Section, path, "", s, value)
	}
}

// keyName returns a variable's name without its prefix, and with the names of keys for those of fields.
func (s *Schema) keyName(name string) string {
	rest := strings.TrimPrefix(name, s.Prefix)
	for _, f := range s.Variable {
		if tail, ok := cutName(rest, spelled(f.Other)); ok {
			return strings.TrimSuffix(spelled(f.Key)+"_"+tail, "_")
		}
	}
	return rest
}

// cutName returns what follows name and "_" in rest, or nothing when rest is name.
func cutName(rest, name string) (string, bool) {
	if strings.EqualFold(rest, name) {
		return "", true
	}
	if len(rest) <= len(name)+1 || rest[len(name)] != '_' || !strings.EqualFold(rest[:len(name)], name) {
		return "", false
	}
	return rest[len(name)+1:], true
}

// resolve finds what a name means in t: the keys and indices on the way, and the type at its end. Since keys may have
// underscores themselves, every key that the name could begin with is tried.
func (s *Schema) resolve(t reflect.Type, rest string) (path []string, leaf reflect.Type, ok bool) {
	if rest == "" {
		return nil, t, true
	}
	if section, isSection := SectionType(t); isSection {
		for _, f := range s.fields(section) {
			if tail, match := cutName(rest, f.Key); match {
				if path, leaf, ok := s.resolve(f.Type, tail); ok {
					return append([]string{f.Key}, path...), leaf, true
				}
			}
		}
		return nil, nil, false
	}
	key, tail := rest, ""
	switch t.Kind() {
	case reflect.Slice:
		key, tail, _ = strings.Cut(rest, "_")
		if _, err := strconv.ParseUint(key, 10, 16); err != nil {
			return nil, nil, false
		}
	case reflect.Map:
		// All of the rest is the key, but for the index of a list.
		if i := strings.LastIndexByte(rest, '_'); i > 0 && t.Elem().Kind() == reflect.Slice {
			if _, err := strconv.ParseUint(rest[i+1:], 10, 16); err == nil {
				key, tail = rest[:i], rest[i+1:]
			}
		}
		if key == strings.ToUpper(key) {
			key = strings.ToLower(key)
		}
	default:
		return nil, nil, false
	}
	path, leaf, ok = s.resolve(t.Elem(), tail)
	return append([]string{key}, path...), leaf, ok
}

// foreignPath finds the row of Foreign that a name falls under, or that falls under it, and returns the keys it
// stands for.
func (s *Schema) foreignPath(rest string) []string {
	spellings := s.learn().foreign
	for i, f := range s.Foreign {
		path := strings.Split(f.Key, ".")
		if tail, ok := cutName(rest, spellings[i]); ok {
			if tail != "" {
				path = append(path, strings.Split(strings.ToLower(tail), "_")...)
			}
			return path
		}
		if _, above := cutName(spellings[i], rest); !above {
			continue
		}
		for n := 1; n < len(path); n++ {
			if strings.EqualFold(rest, spelled(strings.Join(path[:n], "."))) {
				return path[:n]
			}
		}
	}
	return nil
}

// literal makes the value of a variable for a key of type t. Texts are taken as they are, so that secrets may consist
// of digits, and begin with anything; quotes around them are taken off.
func (e *environment) literal(s setting, t reflect.Type) *Tree {
	switch t.Kind() {
	case reflect.Slice, reflect.Map, reflect.Pointer:
		return e.document(s)
	case reflect.Struct:
		if t != reflect.TypeFor[Secret]() {
			return e.document(s)
		}
	}
	text := s.value
	if t.Kind() != reflect.String && t != reflect.TypeFor[Secret]() {
		text = strings.TrimSpace(text)
	}
	if n := len(text); n >= 2 && text[0] == text[n-1] && (text[0] == '"' || text[0] == '\'') {
		source := func(int) string { return s.name }
		if quoted, err := parseYAML([]byte(text), source); err == nil && quoted.kind == scalar {
			return quoted
		}
	}
	return &Tree{source: s.name, kind: scalar, text: text}
}

// document reads a value as YAML. The error does not repeat what YAML says, which may quote the value.
func (e *environment) document(s setting) *Tree {
	t, err := parseYAML([]byte(s.value), func(int) string { return s.name })
	if err != nil {
		e.Fail(s.name, "", "not valid YAML; write a list as [a, b], a section as {key: value}")
		return nil
	}
	return t
}

// guess makes the value of a variable for a key that has no type here: YAML, or else a text.
func (s setting) guess() *Tree {
	t, err := parseYAML([]byte(s.value), func(int) string { return s.name })
	if err != nil {
		return &Tree{source: s.name, kind: scalar, text: s.value}
	}
	return t
}

func (e *environment) secretFile(s setting, path []string) *Tree {
	data, err := e.read(s.value)
	if err != nil {
		e.Fail(s.name, strings.Join(path, "."), "read the file it names: %v", err)
		return nil
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if text == "" {
		e.Fail(s.name, strings.Join(path, "."), "%s is empty", Quote(s.value))
		return nil
	}
	return &Tree{source: s.name, kind: scalar, text: text}
}

// put writes value at path below at, which is of type t (foreignType when no section has it) and has the full key done.
func (e *environment) put(at *Tree, t reflect.Type, path []string, done string, s setting, value *Tree) {
	var alternatives []string
	if section, ok := SectionType(t); ok {
		alternatives = e.schema.choices(done, section)
	}
	if len(path) == 0 {
		if value.kind == scalar && at.Get(value.text) == nil {
			value.text = e.schema.alternative(done, value.text)
		}
		e.replace(at, value, alternatives, s)
		return
	}
	key := path[0]
	if t.Kind() == reflect.Slice {
		if child := e.element(at, key, s); child != nil {
			e.put(child, t.Elem(), path[1:], done+"["+key+"]", s, value)
		}
		return
	}
	if alternatives != nil {
		at.named()
	}
	if at.kind == null {
		at.kind = mapping
	}
	if at.kind != mapping || slices.Contains(alternatives, key) && !e.choose(at, key, done, alternatives, s) {
		return
	}
	if t.Kind() == reflect.Map {
		key = existingKey(at, key)
	}
	e.put(at.add(key, s.name), e.schema.below(t, key), path[1:], Join(done, key), s, value)
}

// replace gives a key its new value. The name of an alternative in place of a section (REGISTRY_STORAGE=inmemory)
// switches to it and leaves the rest of the section as it is.
func (e *environment) replace(at, value *Tree, alternatives []string, s setting) {
	if at.source+"_FILE" == s.name {
		e.Fail(s.name, "", "%s is set too; keep one", at.source)
		return
	}
	if alternatives == nil {
		*at = *value
		return
	}
	if value.kind == null {
		e.Fail(s.name, "", "is empty, which would remove the section; unset it, or name one of %s",
			strings.Join(alternatives, ", "))
		return
	}
	key := value.text
	if value.kind == scalar {
		at.named()
		at.kind, at.source = mapping, s.name
		at.remove(slices.DeleteFunc(alternatives, func(other string) bool { return other == key })...)
		at.add(key, s.name)
	} else {
		*at = *value
		key = ""
		for _, other := range alternatives {
			if at.Get(other) != nil {
				key = other
			}
		}
	}
	at.chosen = choice{key, s.name, true}
}

// alternative returns what an alternative of a section is called here.
func (s *Schema) alternative(section, name string) string {
	for _, n := range s.Renamed {
		if n.Other == Join(section, name) {
			return strings.TrimPrefix(n.Key, section+".")
		}
	}
	return name
}

// choose makes key the alternative of a section, in place of what the file has. It returns false when other variables
// have chosen otherwise.
func (e *environment) choose(at *Tree, key, path string, alternatives []string, s setting) bool {
	c := at.chosen
	switch {
	case c.key == key:
		return true
	case c.key != "" && c.explicit:
		e.Warn(s.name, "", "ignored, since %s chooses %s", c.variable, c.key)
		return false
	case c.key != "":
		e.Fail(s.name, "", "is for %s, but %s is for %s; choose one by %s", key, c.variable, c.key, e.schema.VariableOf(path))
		return false
	}
	at.remove(slices.DeleteFunc(alternatives, func(other string) bool { return other == key })...)
	at.chosen = choice{key, s.name, false}
	return true
}

// element returns the element of a list to write to; one past the end appends.
func (e *environment) element(at *Tree, index string, s setting) *Tree {
	if at.kind == null {
		at.kind = list
	}
	i, _ := strconv.Atoi(index)
	switch {
	case at.kind != list:
		return nil
	case i > len(at.items):
		e.Fail(s.name, "", "the list has %d elements, so the next index is %d, not %d", len(at.items), len(at.items), i)
		return nil
	case i == len(at.items):
		at.items = append(at.items, &Tree{source: s.name})
	}
	return at.items[i]
}

// existingKey returns the key of a map that equals key without regard to case, or key.
func existingKey(at *Tree, key string) string {
	for _, e := range at.entries {
		if strings.EqualFold(e.key, key) {
			return e.key
		}
	}
	return key
}
