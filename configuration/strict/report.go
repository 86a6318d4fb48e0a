package strict

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

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

// A Report gathers what is wrong.
type Report struct {
	Warnings []Warning
	errs     []*Error
}

// maxErrors is how many errors are reported; a file with more is not a configuration.
const maxErrors = 100

func (r *Report) full() bool { return len(r.errs) >= maxErrors }

// Fail adds an error, with the source and the full key of what it is about.
func (r *Report) Fail(source, key, format string, args ...any) {
	if !r.full() {
		r.errs = append(r.errs, &Error{source, key, fmt.Sprintf(format, args...)})
	}
}

// Warn adds a warning, as Fail does an error.
func (r *Report) Warn(source, key, format string, args ...any) {
	if len(r.Warnings) < maxErrors {
		r.Warnings = append(r.Warnings, Warning{source, key, fmt.Sprintf(format, args...)})
	}
}

// Err joins the errors; with sections, by their full keys, only those in them, around them, and about no key.
func (r *Report) Err(sections ...string) error {
	var all []error
	for _, e := range r.errs {
		related := func(s string) bool { return within(e.Key, s) || within(s, e.Key) }
		// When there are too many, not all that is wrong is known.
		if len(sections) == 0 || r.full() || e.Key == "" || slices.ContainsFunc(sections, related) {
			all = append(all, e)
		}
	}
	return errors.Join(all...)
}

// within reports whether a full key is that of a section, or of something below it.
func within(key, section string) bool { return key == section || strings.HasPrefix(key, section+".") }
