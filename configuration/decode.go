package configuration

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// A decoder fills a Config from a tree. Each full key is a path of keys joined by dots, with list indices in brackets.
type decoder struct {
	*report
	name    string // of the file, the source of what is missing
	sources map[string]string
}

// section fills the struct v: first its defaults, then what t has, then the sections that t lacks.
func (d *decoder) section(t *tree, v reflect.Value, path string) {
	if choices(path, v.Type()) != nil {
		t.named()
	}
	if t.kind != mapping && t.kind != null {
		d.fail(t.source, path, "must be a section such as {key: value}, not %v", t)
		return
	}
	setDefaults(v)
	seen := map[string]string{}
	for _, e := range t.entries {
		key := join(path, e.key)
		if first, twice := seen[e.key]; twice {
			d.fail(e.value.source, key, "given twice, first at %s", first)
			continue
		}
		seen[e.key] = e.value.source
		f, ok := findField(v.Type(), e.key)
		if !ok {
			d.foreign(e.value, key)
			continue
		}
		// A key without a value is absent, but for a driver: `inmemory:` is one.
		if e.value.kind != null || f.typ.Kind() == reflect.Pointer {
			d.sources[key] = e.value.source
			d.value(e.value, v.Field(f.index), key, f)
		}
	}
	d.absent(v, path)
	d.choice(t, path, v.Type())
	if c, ok := v.Interface().(checker); ok {
		c.check(checking{d, path, t.source})
	}
}

// absent visits the sections that were not written, for their defaults and their checks.
func (d *decoder) absent(v reflect.Value, path string) {
	for _, f := range fields(v.Type()) {
		key := join(path, f.key)
		_, given := d.sources[key]
		if _, isSection := sectionType(f.typ); isSection && f.typ.Kind() == reflect.Struct && !given {
			d.section(&tree{source: d.name}, v.Field(f.index), key)
		}
	}
}

// choice checks that a section has no more of its alternatives than it may, and no fewer than it must.
func (d *decoder) choice(t *tree, path string, section reflect.Type) {
	var found []entry
	var names []string
	required := false
	for _, f := range fields(section) {
		if f.choice != "" {
			names = append(names, f.key)
			required = required || f.choice == "required"
		}
	}
	for _, key := range choices(path, section) {
		if value := t.get(key); value != nil {
			found = append(found, entry{key, value})
		}
	}
	if len(found) > 1 {
		d.fail(found[1].value.source, path, "has both %s (%s) and %s; keep one",
			found[0].key, found[0].value.source, found[1].key)
	}
	if len(found) == 0 && required {
		d.fail(t.source, path, "must have one of %s", strings.Join(names, ", "))
	}
}

func (d *decoder) value(t *tree, v reflect.Value, path string, f field) {
	if section, ok := sectionType(v.Type()); ok {
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

func (d *decoder) list(t *tree, v reflect.Value, path string) {
	if t.kind != list {
		d.fail(t.source, path, "must be %s, not %v", expected(v.Type()), t)
		return
	}
	v.SetZero() // an empty list is nil, as an absent one
	if len(t.items) > 0 {
		v.Set(reflect.MakeSlice(v.Type(), len(t.items), len(t.items)))
	}
	for i, item := range t.items {
		key := path + "[" + strconv.Itoa(i) + "]"
		d.sources[key] = item.source
		d.value(item, v.Index(i), key, field{})
	}
}

func (d *decoder) mapping(t *tree, v reflect.Value, path string) {
	if t.kind != mapping {
		d.fail(t.source, path, "must be %s, not %v", expected(v.Type()), t)
		return
	}
	v.SetZero()
	if len(t.entries) > 0 {
		v.Set(reflect.MakeMap(v.Type()))
	}
	for _, e := range t.entries {
		key := join(path, e.key)
		if first, twice := d.sources[key]; twice {
			d.fail(e.value.source, key, "given twice, first at %s", first)
			continue
		}
		d.sources[key] = e.value.source
		value := reflect.New(v.Type().Elem()).Elem()
		d.value(e.value, value, key, field{})
		v.SetMapIndex(reflect.ValueOf(e.key), value)
	}
}

func (d *decoder) scalar(t *tree, v reflect.Value, path string, f field) {
	want, got := expected(v.Type()), t.String()
	if v.Type() == reflect.TypeFor[Secret]() && t.kind == scalar {
		got = "***"
	}
	if f.enum != nil {
		want = strings.Join(f.enum, ", ")
		if len(f.enum) > 1 {
			want = "one of " + want
		}
	}
	if t.kind != scalar {
		d.fail(t.source, path, "must be %s, not %s", want, got)
		return
	}
	value := reflect.New(v.Type()).Elem()
	err := setText(value, t.text)
	if err == nil && f.enum != nil {
		err = matchEnum(value, f.enum)
	}
	if err != nil {
		d.fail(t.source, path, "must be %s, not %s", want, got)
		return
	}
	if least := leastValue(v.Type(), f.min); value.CanInt() && value.Int() < least.Int() {
		d.fail(t.source, path, "must be at least %s, not %s", text(least), got)
		return
	}
	if _, isNumber := strconv.ParseInt(t.text, 10, 64); isNumber == nil && t.text != "0" && isDuration(v.Type()) {
		d.warn(t.source, path, "%s without a unit is in nanoseconds; write %s", t.text, text(value))
	}
	v.Set(value)
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
		_ = setText(v, tag)
	}
	return v
}

// setDefaults sets the scalars of the struct v to their defaults.
func setDefaults(v reflect.Value) {
	for _, f := range fields(v.Type()) {
		if f.initial != "" {
			_ = setText(v.Field(f.index), f.initial)
		}
	}
}
