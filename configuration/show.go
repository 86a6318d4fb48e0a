package configuration

import (
	"cmp"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"

	"gopkg.in/yaml.v3"
)

// Show writes the configuration as YAML in which each value has a comment that says where it came from. Secrets read
// "***"; but for them, what it writes is a configuration that means the same.
func (c *Config) Show(w io.Writer) error {
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(c.show(reflect.ValueOf(*c), "")); err != nil {
		return fmt.Errorf("show the configuration: %w", err)
	}
	return enc.Close()
}

func (c *Config) show(v reflect.Value, path string) *yaml.Node {
	if section, ok := sectionType(v.Type()); ok && section.NumField() > 0 {
		return c.showSection(reflect.Indirect(v), path)
	}
	n := &yaml.Node{LineComment: c.Source(path)}
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
			n.Content = append(n.Content, stringNode(name.String()), c.show(v.MapIndex(name), join(path, name.String())))
		}
	case reflect.Slice:
		n.Kind = yaml.SequenceNode
		for i := range v.Len() {
			n.Content = append(n.Content, c.show(v.Index(i), path+"["+strconv.Itoa(i)+"]"))
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

func (c *Config) showSection(v reflect.Value, path string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for _, f := range fields(v.Type()) {
		value := v.Field(f.index)
		if value.Kind() == reflect.Pointer && value.IsNil() {
			continue
		}
		n.Content = append(n.Content, stringNode(f.key), c.show(value, join(path, f.key)))
	}
	if len(n.Content) == 0 {
		n.Style = yaml.FlowStyle
	}
	return n
}

func stringNode(text string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
}
