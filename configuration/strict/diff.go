package strict

import "reflect"

// Diff returns the full keys whose values differ between two sections of a type, in the order of the file. A list or a mapping
// counts as one value, and so does a section that only one of them has.
func Diff(a, b any) []string {
	var different []string
	diff(reflect.ValueOf(a), reflect.ValueOf(b), "", &different)
	return different
}

func diff(a, b reflect.Value, path string, different *[]string) {
	_, isSection := SectionType(a.Type())
	if isSection && a.Kind() == reflect.Pointer && !a.IsNil() && !b.IsNil() {
		a, b = a.Elem(), b.Elem()
	}
	if !isSection || a.Kind() == reflect.Pointer {
		if !reflect.DeepEqual(a.Interface(), b.Interface()) {
			*different = append(*different, path)
		}
		return
	}
	for _, f := range Fields(a.Type()) {
		diff(a.Field(f.index), b.Field(f.index), Join(path, f.Key), different)
	}
}
