package configuration

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"berth/configuration/strict"
)

var update = flag.Bool("update", false, "rewrite the files that are made from the typed configuration")

// compareGolden compares what was made with a file, which it rewrites under -update.
func compareGolden(t *testing.T, file, made string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(made), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if made != string(want) {
		t.Errorf("%s is not what is made now; look at the difference and run: go test ./configuration -update\n%s", file, made)
	}
}

// The parts of docs/configuration.md between these lines are made by this test; the rest is written by hand.
const (
	keysBegin    = "<!-- keys: made by go test ./configuration -update -->\n"
	keysEnd      = "<!-- end of keys -->\n"
	foreignBegin = "<!-- foreign keys: made by go test ./configuration -update -->\n"
	foreignEnd   = "<!-- end of foreign keys -->\n"
)

func TestDocs(t *testing.T) {
	const file = "../docs/configuration.md"
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	made := replacePart(t, string(page), keysBegin, keysEnd, keysTable(docComments(t)))
	made = replacePart(t, made, foreignBegin, foreignEnd, foreignTable())
	compareGolden(t, file, made)
}

func replacePart(t *testing.T, page, begin, end, part string) string {
	t.Helper()
	before, rest, ok := strings.Cut(page, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("the page lacks the lines %q and %q", begin, end)
	}
	return before + begin + part + end + after
}

// docComments returns the comments of the fields of the sections, by "Type.Field", each in one line.
func docComments(t *testing.T) map[string]string {
	t.Helper()
	docs := map[string]string{}
	for _, name := range []string{"config.go", "auth.go", "storage.go", "tls.go", "requests.go", "s3.go", "gcs.go", "azure.go", "admin.go", "metrics.go", "health.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		fieldComments(file, docs)
	}
	return docs
}

func fieldComments(file *ast.File, docs map[string]string) {
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if s, ok := spec.Type.(*ast.StructType); ok {
			for _, f := range s.Fields.List {
				for _, name := range f.Names {
					docs[spec.Name.Name+"."+name.Name] = strings.Join(strings.Fields(f.Doc.Text()), " ")
				}
			}
		}
		return false
	})
}

// documented calls yield for each key with its depth and its comment.
func documented(docs map[string]string, section reflect.Type, prefix string, yield func(path string, f strict.Field, doc string)) {
	for _, f := range strict.Fields(section) {
		path := strict.Join(prefix, f.Key)
		yield(path, f, docs[section.Name()+"."+f.Name])
		t, suffix := f.Type, ""
		if t.Kind() == reflect.Slice {
			t, suffix = t.Elem(), "[]"
		}
		if inner, ok := strict.SectionType(t); ok {
			documented(docs, inner, path+suffix, yield)
		}
	}
}

func keysTable(docs map[string]string) string {
	var out strings.Builder
	documented(docs, reflect.TypeFor[Config](), "", func(path string, f strict.Field, doc string) {
		if _, ok := strict.SectionType(f.Type); ok && !strings.Contains(path, ".") {
			fmt.Fprintf(&out, "\n### `%s`\n\n%s\n\n| key | value | default | |\n|---|---|---|---|\n", path, doc)
			return
		}
		if out.Len() == 0 {
			out.WriteString("\n| key | value | default | |\n|---|---|---|---|\n")
		}
		initial := ""
		if f.Initial != "" {
			initial = "`" + f.Initial + "`"
		}
		fmt.Fprintf(&out, "| `%s` | %s | %s | %s |\n", path, valueOf(f), initial, doc)
	})
	return out.String() + "\n"
}

func valueOf(f strict.Field) string {
	if f.Enum != nil {
		return "`" + strings.Join(f.Enum, "`, `") + "`"
	}
	names := map[reflect.Type]string{
		reflect.TypeFor[bool](): "true or false", reflect.TypeFor[int](): "number", reflect.TypeFor[string](): "text",
		reflect.TypeFor[Secret](): "secret", reflect.TypeFor[Size](): "size", reflect.TypeFor[map[string]string](): "name: text",
		reflect.TypeFor[map[string][]string](): "name: list of texts",
		reflect.TypeFor[map[string][]Secret](): "name: list of secrets", reflect.TypeFor[[]string](): "list of texts",
	}
	name, ok := names[f.Type]
	switch {
	case f.Type == reflect.TypeFor[time.Duration]():
		name = "duration"
	case !ok && f.Type.Kind() == reflect.Slice:
		name = "list of sections"
	case !ok:
		name = "section"
	}
	if f.Min != "" {
		name += ", at least " + f.Min
	}
	return name
}

func foreignTable() string {
	var out strings.Builder
	out.WriteString("\n| key | | why |\n|---|---|---|\n")
	names := map[strict.Verdict]string{strict.Accepted: "accepted", strict.Ignored: "ignored", strict.Refused: "**refused**"}
	for _, f := range foreignKeys {
		except := ""
		if f.Unless != "" {
			except = " (but not `" + f.Unless + "`)"
		}
		fmt.Fprintf(&out, "| `%s`%s | %s | %s |\n", f.Key, except, names[f.Verdict], f.Why)
	}
	for _, n := range otherNames {
		if n.Old {
			continue
		}
		fmt.Fprintf(&out, "| `%s` | accepted | it is another name of `%s` |\n", n.Other, n.Key)
	}
	return out.String() + "\n"
}

// inExample are the values in config.example.yml that are not the defaults. All of its drivers but one are comments.
var inExample = map[string]string{"storage.delete.enabled": "true", "storage.filesystem.rootdirectory": "./data"}

func TestExample(t *testing.T) {
	const file = "../config.example.yml"
	made := example(docComments(t))
	compareGolden(t, file, made)

	c := mustParse(t, made)
	if c.Storage.Driver() != "filesystem" || !c.Storage.Delete.Enabled || c.HTTP.Addr != "127.0.0.1:5000" {
		t.Errorf("the example is %+v", c)
	}
	// With all that is commented out, nothing is wrong but what excludes each other.
	_, _, err := Parse("all", []byte(strings.ReplaceAll(made, "#-", "")), nil)
	if got := lines(err); len(got) != 2 || !strings.Contains(got[0], "storage: has both filesystem") || !strings.Contains(got[1], "auth.none: lets") {
		t.Errorf("with what is commented out: %q", got)
	}
	strict.Keys(schema.Section, "", func(path string, f strict.Field) {
		if last := path[strings.LastIndexByte(path, '.')+1:]; !strings.Contains(made, last+":") {
			t.Errorf("%s is not in the example", path)
		}
	})
}

// example makes config.example.yml. A key without a default, and a driver but the first, is commented out by "#-".
func example(docs map[string]string) string {
	var out strings.Builder
	out.WriteString("# Every key of Berth with its default, but for what `make run` needs. A key that has no default, and what excludes\n" +
		"# another, is behind \"#-\". Any key can also be given as a variable: http.addr as REGISTRY_HTTP_ADDR.\n" +
		"# See docs/configuration.md.\n")
	chosen := map[string]bool{}
	var off string // the section that is commented out
	documented(docs, reflect.TypeFor[Config](), "", func(path string, f strict.Field, doc string) {
		if strings.Contains(path, "[]") {
			return
		}
		indent := strings.Repeat("  ", strings.Count(path, "."))
		section, _ := strict.SectionType(f.Type)
		isSection := section.Kind() == reflect.Struct && section != reflect.TypeFor[Secret]()
		parent := path[:max(strings.LastIndexByte(path, '.'), 0)]
		mark := ""
		switch {
		case off != "" && strings.HasPrefix(path, off+"."):
			mark = "#-"
		case f.Choice == "optional", f.Choice == "" && f.Type.Kind() == reflect.Pointer, f.Choice == "required" && chosen[parent]:
			mark, off = "#-", path
		}
		chosen[parent] = chosen[parent] || f.Choice != ""
		value := f.Initial
		if v, ok := inExample[path]; ok {
			value = v
		}
		switch {
		case isSection && section.NumField() == 0:
			value = "{}"
		case f.Key == "version":
			value = f.Example
		case value == "" && !isSection:
			value = f.Example
			mark = "#-"
		}
		if indent == "" {
			out.WriteString("\n")
		}
		for _, line := range wrap(doc, 110-len(indent)) {
			fmt.Fprintf(&out, "%s# %s\n", indent, line)
		}
		if len(f.Enum) > 1 {
			fmt.Fprintf(&out, "%s# One of %s.\n", indent, strings.Join(f.Enum, ", "))
		}
		fmt.Fprintln(&out, strings.TrimRight(indent+mark+f.Key+": "+value, " "))
	})
	return out.String()
}

func wrap(text string, width int) []string {
	var lines []string
	for word := range strings.FieldsSeq(text) {
		if n := len(lines); n > 0 && len(lines[n-1])+1+len(word) <= width {
			lines[n-1] += " " + word
		} else {
			lines = append(lines, word)
		}
	}
	return lines
}
