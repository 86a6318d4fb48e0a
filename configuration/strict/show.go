package strict

import (
	"cmp"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"

	"gopkg.in/yaml.v3"
)

// Show writes a section as YAML in which each value has a comment that says, by its full key, where it came from. Secrets read
// "***"; but for them, what it writes means the same.
func Show(w io.Writer, section any, source func(key string) string) error {
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(shower(source).value(reflect.ValueOf(section), "")); err != nil {
		return fmt.Errorf("show a section: %w", err)
	}
	return enc.Close()
}

// A shower says where the value of a full key came from.
type shower func(key string) string

func (s shower) value(v reflect.Value, path string) *yaml.Node {
	if section, ok := SectionType(v.Type()); ok && section.NumField() > 0 {
		return s.section(reflect.Indirect(v), path)
	}
	n := &yaml.Node{LineComment: s(path)}
	switch v.Kind() {
	case reflect.Pointer:
		n.Kind, n.Style = yaml.MappingNode, yaml.FlowStyle
	case reflect.Map:
		n.Kind = yaml.MappingNode
		if v.Len() > 0 {
			n.LineComment = ""
		}
		names := v.MapKeys()
		slices.SortFunc(names, func(a, b reflect.Value) int { return cmp.Compare(a.String(), b.String()) })
		for _, name := range names {
			n.Content = append(n.Content, stringNode(name.String()), s.value(v.MapIndex(name), Join(path, name.String())))
		}
	case reflect.Slice:
		n.Kind = yaml.SequenceNode
		for i := range v.Len() {
			n.Content = append(n.Content, s.value(v.Index(i), path+"["+strconv.Itoa(i)+"]"))
		}
		if v.Len() > 0 {
			n.LineComment = ""
		}
	default:
		n.Kind, n.Value = yaml.ScalarNode, text(v)
		if v.Kind() == reflect.String || v.Kind() == reflect.Struct {
			n.Tag = "!!str"
		}
	}
	return n
}

func (s shower) section(v reflect.Value, path string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for _, f := range Fields(v.Type()) {
		value := v.Field(f.index)
		if value.Kind() == reflect.Pointer && value.IsNil() {
			continue
		}
		n.Content = append(n.Content, stringNode(f.Key), s.value(value, Join(path, f.Key)))
	}
	if len(n.Content) == 0 {
		n.Style = yaml.FlowStyle
	}
	return n
}

func stringNode(text string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
}
