package strict

import "strings"

// Checking reports what a section finds wrong with itself.
type Checking struct {
	d      *decoder
	path   string
	source string
}

// Fail reports the value of a key of the section. The key may have an index, and is empty for the section itself.
func (c Checking) Fail(key, format string, args ...any) {
	source, full := c.at(key)
	c.d.Fail(source, full, format, args...)
}

// Warn reports what is worth a warning, as Fail does what is wrong.
func (c Checking) Warn(key, format string, args ...any) {
	source, full := c.at(key)
	c.d.Warn(source, full, format, args...)
}

// Given reports whether a key of the section was written, and is not merely its default.
func (c Checking) Given(key string) bool {
	_, ok := c.d.sources[c.full(key)]
	return ok
}

func (c Checking) at(key string) (source, full string) {
	full, source = c.path, c.source
	if key != "" {
		full = c.full(key)
	}
	if s, ok := c.d.sources[full]; ok {
		source = s
	}
	return source, full
}

func (c Checking) full(key string) string { return strings.TrimPrefix(c.path+"."+key, ".") }
