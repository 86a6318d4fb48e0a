package configuration

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	"berth/configuration/strict"
)

const (
	prefix       = "REGISTRY_"
	pathVariable = prefix + "CONFIGURATION_PATH"
)

// schema is what the file and the variables may have.
var schema = &strict.Schema{
	Section: reflect.TypeFor[Config](),
	Prefix:  prefix,
	NotKeys: []string{pathVariable, prefix + "VERSION"}, // many images set it to a release; the version of the file is the file's
	Foreign: foreignKeys, Renamed: otherNames, Variable: fieldNames, Check: check,
}

// maxFile is the size of the largest file read, configuration or secret, in bytes.
const maxFile = 1 << 20

// Load reads a file and the variables over it; see [Parse].
func Load(file string, environ []string) (*Config, []Warning, error) {
	data, err := readFile(file)
	if err != nil {
		return nil, nil, fmt.Errorf("read the configuration: %w", err)
	}
	return Parse(file, data, environ)
}

// Parse reads the bytes of a file of the given name, and then the variables in environ ("NAME=value") that begin with
// REGISTRY_. An error joins all that is wrong, each one an [*Error]; warnings are returned in any case.
func Parse(name string, data []byte, environ []string) (*Config, []Warning, error) {
	return parse(name, data, environ, readFile)
}

// LoadSections is Load for who needs the given sections alone, by their full keys: whatever is wrong elsewhere is no error,
// and what the configuration has there is not to be relied on.
func LoadSections(file string, environ []string, sections ...string) (*Config, error) {
	data, err := readFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	config, doc, err := decode(file, data, environ, readFile)
	if err == nil {
		err = doc.Err(sections...)
	}
	if err != nil {
		return nil, err
	}
	return config, nil
}

// parse is Parse with a way to read the files that variables name.
func parse(name string, data []byte, environ []string, read func(string) ([]byte, error)) (*Config, []Warning, error) {
	config, doc, err := decode(name, data, environ, read)
	if err != nil {
		return nil, nil, err
	}
	if err := doc.Err(); err != nil {
		return nil, doc.Warnings, err
	}
	return config, doc.Warnings, nil
}

// decode returns a configuration as far as it could be read, and what is wrong with it; an error when that is all of it.
func decode(name string, data []byte, environ []string, read func(string) ([]byte, error)) (*Config, *strict.Document, error) {
	doc, err := schema.Parse(name, data)
	if err != nil {
		return nil, nil, err
	}
	doc.Override(environ, read)
	for _, variable := range environ {
		if name, value, _ := strings.Cut(variable, "="); name == foreignSuites && value != "" {
			doc.Fail(name, "", "is of another registry: its list is http.tls.ciphersuites here (REGISTRY_HTTP_TLS_CIPHERSUITES)")
		}
	}
	cloudFront(doc)
	config := &Config{}
	config.sources = doc.Decode(config)
	return config, doc, nil
}

// Source says where the value of a full key came from: "config.yml:12", the name of a variable, or "default".
func (c *Config) Source(key string) string {
	return cmp.Or(c.sources[key], "default")
}

// At says of an error which key it is about, and where that comes from.
func (c *Config) At(key string, err error) error {
	return &Error{Source: c.Source(key), Key: key, Text: err.Error()}
}

// Show writes the configuration as YAML in which each value has a comment that says where it came from. Secrets read
// "***"; but for them, what it writes is a configuration that means the same.
func (c *Config) Show(w io.Writer) error { return strict.Show(w, *c, c.Source) }

// Diff returns the full keys whose values differ between two configurations, in the order of the file. A list or a mapping
// counts as one value, and so does a section that only one of them has.
func Diff(a, b *Config) []string { return strict.Diff(*a, *b) }

// DefaultPaths returns the places where a configuration is looked for when none is named: Berth's, and those of the
// registry:3 and registry:2 images.
func DefaultPaths() []string {
	return []string{"/etc/berth/config.yml", "/etc/distribution/config.yml", "/etc/docker/registry/config.yml"}
}

// Path returns the file to load: arg unless it is empty, else the one named by REGISTRY_CONFIGURATION_PATH in environ,
// else the first of paths that exists. It is an error when there is none.
func Path(arg string, environ, paths []string) (string, error) {
	if arg != "" {
		return arg, nil
	}
	for _, v := range environ {
		if path, ok := strings.CutPrefix(v, pathVariable+"="); ok && path != "" {
			return path, nil
		}
	}
	for _, path := range paths {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("no configuration: name a file as argument or in %s, or make one of %s",
		pathVariable, strings.Join(paths, ", "))
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s: larger than %v", path, Size(maxFile))
	}
	return data, err
}
