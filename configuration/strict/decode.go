package strict

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Decode fills the struct that into points to, and returns by full key where each value was written. What is absent has its
// default. [Report.Err] says what is wrong.
func (d *Document) Decode(into any) (sources map[string]string) {
	sources = map[string]string{}
	(&decoder{d, sources}).section(d.Root, reflect.ValueOf(into).Elem(), "")
	return sources
}

// A decoder fills a struct from a document. Each full key is a path of keys joined by dots, with list indices in brackets.
type decoder struct {
	*Document
	sources map[string]string
}

// section fills the struct v: first its defaults, then what t has, then the sections that t lacks.
func (d *decoder) section(t *Tree, v reflect.Value, path string) {
	if d.schema.choices(path, v.Type()) != nil {
		t.named()
	}
	if t.kind != mapping && t.kind != null {
		d.Fail(t.source, path, "must be a section such as {key: value}, not %v", t)
		return
	}
	d.setDefaults(v)
	seen := map[string]string{}
	for _, e := range t.entries {
		key := Join(path, e.key)
		if first, twice := seen[e.key]; twice {
			d.Fail(e.value.source, key, "given twice, first at %s", first)
			continue
		}
		seen[e.key] = e.value.source
		f, ok := d.schema.findField(v.Type(), e.key)
		if !ok {
			d.foreign(e.value, key)
			continue
		}
		// A key without a value is absent, but for a driver: `inmemory:` is one.
		if e.value.kind != null || f.Type.Kind() == reflect.Pointer {
			d.sources[key] = e.value.source
			d.value(e.value, v.Field(f.index), key, f)
		}
	}
	d.absent(v, path)
	d.choice(t, path, v.Type())
	if d.schema.Check != nil {
		d.schema.Check(v.Interface(), Checking{d, path, t.source})
	}
}

// absent visits the sections that were not written, for their defaults and their checks.
func (d *decoder) absent(v reflect.Value, path string) {
	for _, f := range d.schema.fields(v.Type()) {
		key := Join(path, f.Key)
		_, given := d.sources[key]
		if _, isSection := SectionType(f.Type); isSection && f.Type.Kind() == reflect.Struct && !given {
			d.section(&Tree{source: d.name}, v.Field(f.index), key)
		}
	}
}

// choice checks that a section has no more of its alternatives than it may, and no fewer than it must.
func (d *decoder) choice(t *Tree, path string, section reflect.Type) {
	var found []entry
	var names []string
	required := false
	for _, f := range d.schema.fields(section) {
		if f.Choice != "" {
			names = append(names, f.Key)
			required = required || f.Choice == "required"
		}
	}
	for _, key := range d.schema.choices(path, section) {
		if value := t.Get(key); value != nil {
			found = append(found, entry{key, value})
		}
	}
	if len(found) > 1 {
		d.Fail(found[1].value.source, path, "has both %s (%s) and %s; keep one",
			found[0].key, found[0].value.source, found[1].key)
	}
	if len(found) == 0 && required {
		d.Fail(t.source, path, "must have one of %s", strings.Join(names, ", "))
	}
}

func (d *decoder) value(t *Tree, v reflect.Value, path string, f Field) {
	if section, ok := SectionType(v.Type()); ok {
		if v.Kind() == reflect.Pointer {
			v.Set(reflect.New(section))
			v = v.Elem()
		}
		d.section(t, v, path)
		return
	}
	switch v.Kind() {
	case reflect.Slice:
		d.list(t, v, path)
	case reflect.Map:
		d.mapping(t, v, path)
	default:
		d.scalar(t, v, path, f)
	}
}

func (d *decoder) list(t *Tree, v reflect.Value, path string) {
	if t.kind != list {
		d.Fail(t.source, path, "must be %s, not %s", expected(v.Type()), quoted(t, v.Type().Elem()))
		return
	}
	v.SetZero() // an empty list is nil, as an absent one
	if len(t.items) > 0 {
		v.Set(reflect.MakeSlice(v.Type(), len(t.items), len(t.items)))
	}
	for i, item := range t.items {
		key := path + "[" + strconv.Itoa(i) + "]"
		d.sources[key] = item.source
		d.value(item, v.Index(i), key, Field{})
	}
}

func (d *decoder) mapping(t *Tree, v reflect.Value, path string) {
	if t.kind != mapping {
		d.Fail(t.source, path, "must be %s, not %v", expected(v.Type()), t)
		return
	}
	v.SetZero()
	if len(t.entries) > 0 {
		v.Set(reflect.MakeMap(v.Type()))
	}
	for _, e := range t.entries {
		key := Join(path, e.key)
		if first, twice := d.sources[key]; twice {
			d.Fail(e.value.source, key, "given twice, first at %s", first)
			continue
		}
		d.sources[key] = e.value.source
		value := reflect.New(v.Type().Elem()).Elem()
		d.value(e.value, value, key, Field{})
		v.SetMapIndex(reflect.ValueOf(e.key), value)
	}
}

func (d *decoder) scalar(t *Tree, v reflect.Value, path string, f Field) {
	want, got := expected(v.Type()), quoted(t, v.Type())
	if f.Enum != nil {
		want = strings.Join(f.Enum, ", ")
		if len(f.Enum) > 1 {
			want = "one of " + want
		}
	}
	if t.kind != scalar {
		d.Fail(t.source, path, "must be %s, not %s", want, got)
		return
	}
	value := reflect.New(v.Type()).Elem()
	err := SetText(value, t.text)
	if err == nil && f.Enum != nil {
		err = matchEnum(value, f.Enum)
	}
	if err != nil {
		d.Fail(t.source, path, "must be %s, not %s", want, got)
		return
	}
	if least := leastValue(v.Type(), f.Min); value.CanInt() && value.Int() < least.Int() {
		d.Fail(t.source, path, "must be at least %s, not %s", text(least), got)
		return
	}
	if _, isNumber := strconv.ParseInt(t.text, 10, 64); isNumber == nil && t.text != "0" && isDuration(v.Type()) {
		d.Warn(t.source, path, "%s without a unit is in nanoseconds; write %s", t.text, text(value))
	}
	v.Set(value)
}

// quoted is what an error says of a value that should have been of a type.
func quoted(t *Tree, want reflect.Type) string {
	if want == reflect.TypeFor[Secret]() && t.kind == scalar {
		return "***"
	}
	return t.String()
}

func isDuration(t reflect.Type) bool { return t == reflect.TypeFor[time.Duration]() }

// matchEnum replaces the text in v by the member of enum that it equals without regard to case.
func matchEnum(v reflect.Value, enum []string) error {
	for _, member := range enum {
		if strings.EqualFold(v.String(), member) {
			v.SetString(member)
			return nil
		}
	}
	return fmt.Errorf("%s is not allowed", v)
}

// leastValue reads the tag min. That it, and the tag default, can be read is tested.
func leastValue(t reflect.Type, tag string) reflect.Value {
	v := reflect.New(t).Elem()
	if tag != "" {
		_ = SetText(v, tag)
	}
	return v
}

// setDefaults sets the scalars of the struct v to their defaults.
func (d *decoder) setDefaults(v reflect.Value) {
	for _, f := range d.schema.fields(v.Type()) {
		if f.Initial != "" {
			_ = SetText(v.Field(f.index), f.Initial)
		}
	}
}
