package strict

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes.
type Size int64

// A unit is written after a number; powers of 1024 come first, so that String prefers them.
type unit struct {
	name  string
	bytes int64
}

func units() []unit {
	return []unit{
		{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
		{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"B", 1},
	}
}

// parseSize reads a whole number with or without one of the units KiB MiB GiB TiB KB MB GB TB B.
func parseSize(text string) (Size, error) {
	number, scale := text, int64(1)
	for _, u := range units() {
		if n, ok := cutSuffixFold(text, u.name); ok {
			number, scale = strings.TrimSpace(n), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n > math.MaxInt64/scale || n < math.MinInt64/scale {
		return 0, errors.New("not a size")
	}
	return Size(n * scale), nil
}

// String writes a size as [parseSize] reads it, in the largest unit of which it is a multiple.
func (s Size) String() string {
	for _, u := range units() {
		if u.bytes > 1 && s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

func cutSuffixFold(s, suffix string) (string, bool) {
	n := len(s) - len(suffix)
	if n <= 0 || !strings.EqualFold(s[n:], suffix) {
		return s, false
	}
	return s[:n], true
}

// parseDuration reads what [time.ParseDuration] reads, also with days in front ("7d", "1d12h"), and whole numbers,
// which are nanoseconds as in distribution.
func parseDuration(text string) (time.Duration, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.Duration(n), nil
	}
	const day = 24 * time.Hour
	var days time.Duration
	if number, rest, ok := strings.Cut(text, "d"); ok {
		n, err := strconv.ParseUint(number, 10, 32)
		if err != nil || n > uint64(math.MaxInt64/day) {
			return 0, errors.New("not a duration")
		}
		if days, text = time.Duration(n)*day, rest; text == "" {
			return days, nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d > math.MaxInt64-days {
		return 0, errors.New("not a duration")
	}
	return days + d, nil
}

// FormatDuration writes a duration without the parts that are zero: 24h, not 24h0m0s.
func FormatDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// Secret is a text that is never printed: whatever way it is formatted, it reads ***, or nothing when it is empty. It
// is kept behind a pointer because fmt looks into the unexported fields of a struct without asking their methods.
type Secret struct{ text *string }

// NewSecret returns a secret that holds text.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{&text}
}

// Reveal returns the text.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// String returns ***, or nothing when the secret is empty.
func (s Secret) String() string {
	if s.text == nil {
		return ""
	}
	return "***"
}

// GoString is String.
func (s Secret) GoString() string { return s.String() }

// Format writes String for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// MarshalText returns String.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// SetText sets v, of one of the scalar types, to what text says. The caller turns an error into one that names what was
// expected and what was found.
func SetText(v reflect.Value, text string) (err error) {
	switch p := v.Addr().Interface().(type) {
	case *string:
		*p = text
	case *Secret:
		*p = NewSecret(text)
	case *bool:
		*p, err = parseBool(text)
	case *int:
		*p, err = strconv.Atoi(text)
	case *Size:
		*p, err = parseSize(text)
	case *time.Duration:
		*p, err = parseDuration(text)
	default:
		err = fmt.Errorf("%s is not a type of a value", v.Type())
	}
	return err
}

// text is the inverse of SetText, but for secrets.
func text(v reflect.Value) string {
	if d, ok := v.Interface().(time.Duration); ok {
		return FormatDuration(d)
	}
	return fmt.Sprint(v.Interface())
}

// parseBool takes the words of YAML 1.1, which distribution takes.
func parseBool(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "true", "yes", "on", "y":
		return true, nil
	case "false", "no", "off", "n":
		return false, nil
	}
	return false, errors.New("not a truth value")
}

// expected says, for errors, what a value of a type looks like.
func expected(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[bool]():
		return "true or false"
	case reflect.TypeFor[int]():
		return "a whole number"
	case reflect.TypeFor[Size]():
		return "a size such as 10MiB"
	case reflect.TypeFor[time.Duration]():
		return "a duration such as 30s, 12h or 7d"
	}
	switch _, isSection := SectionType(t); {
	case t.Kind() == reflect.Slice:
		return "a list such as [a, b]"
	case t.Kind() == reflect.Map || isSection:
		return "a section such as {key: value}"
	}
	return "a text"
}
