package configuration

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
)

// maxFile is the size of the largest file read, configuration or secret, in bytes.
const maxFile = 1 << 20

// A Warning is something that does not keep the server from starting.
type Warning struct {
	Source string // "config.yml:12", or the name of a variable
	Key    string // the full key, such as "log.level"; empty when it is about no key
	Text   string
}

// String returns the warning on one line.
func (w Warning) String() string {
	parts := []string{w.Source, w.Key, w.Text}
	if w.Key == "" {
		parts = []string{w.Source, w.Text}
	}
	return strings.Join(parts, ": ")
}

// An Error is something that must be changed in the file or in a variable.
type Error Warning

// Error returns the error on one line.
func (e *Error) Error() string { return Warning(*e).String() }

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
	config, r, err := decode(file, data, environ, readFile)
	if err != nil {
		return nil, err
	}
	if !r.full() { // else not all that is wrong is known
		r.errs = slices.DeleteFunc(r.errs, func(err error) bool {
			e, known := err.(*Error)
			return known && e.Key != "" && !slices.ContainsFunc(sections, func(s string) bool { return within(e.Key, s) || within(s, e.Key) })
		})
	}
	if len(r.errs) > 0 {
		return nil, errors.Join(r.errs...)
	}
	return config, nil
}

// within reports whether a full key is that of a section, or of something below it.
func within(key, section string) bool { return key == section || strings.HasPrefix(key, section+".") }

// parse is Parse with a way to read the files that variables name.
func parse(name string, data []byte, environ []string, read func(string) ([]byte, error)) (*Config, []Warning, error) {
	config, r, err := decode(name, data, environ, read)
	if err != nil {
		return nil, nil, err
	}
	if len(r.errs) > 0 {
		return nil, r.warnings, errors.Join(r.errs...)
	}
	return config, r.warnings, nil
}

// decode returns a configuration as far as it could be read, and what is wrong with it; an error when that is all of it.
func decode(name string, data []byte, environ []string, read func(string) ([]byte, error)) (*Config, *report, error) {
	root, err := parseYAML(data, func(line int) string { return fmt.Sprintf("%s:%d", name, line) })
	if err != nil {
		return nil, nil, err
	}
	r := &report{}
	r.oldLogLevel(root)
	r.rename(root)
	e := environment{report: r, root: root, read: read}
	e.apply(environ)
	r.rename(root) // of a variable for the section around
	r.cloudFront(root)

	config := &Config{}
	d := decoder{report: r, name: name, sources: map[string]string{}}
	d.section(root, reflect.ValueOf(config).Elem(), "")
	config.sources = d.sources
	return config, r, nil
}

// oldLogLevel makes the old key loglevel log.level, unless that is there too.
func (r *report) oldLogLevel(root *tree) {
	const old = "loglevel"
	value := root.get(old)
	if value == nil {
		return
	}
	r.warn(value.source, old, "is an old name of log.level")
	root.remove(old)
	section := root.add("log", value.source)
	if section.kind == null {
		section.kind = mapping
	}
	if level := section.add("level", value.source); level.kind == null {
		*level = *value
	}
}

// Source says where the value of a full key came from: "config.yml:12", the name of a variable, or "default".
func (c *Config) Source(key string) string {
	return cmp.Or(c.sources[key], "default")
}

// At says of an error which key it is about, and where that comes from.
func (c *Config) At(key string, err error) error {
	return &Error{Source: c.Source(key), Key: key, Text: err.Error()}
}

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

// A report gathers what is wrong.
type report struct {
	warnings []Warning
	errs     []error
}

// maxErrors is how many errors are reported; a file with more is not a configuration.
const maxErrors = 100

func (r *report) full() bool { return len(r.errs) >= maxErrors }

func (r *report) fail(source, key, format string, args ...any) {
	if !r.full() {
		r.errs = append(r.errs, &Error{source, key, fmt.Sprintf(format, args...)})
	}
}

func (r *report) warn(source, key, format string, args ...any) {
	if len(r.warnings) < maxErrors {
		r.warnings = append(r.warnings, Warning{source, key, fmt.Sprintf(format, args...)})
	}
}
