package auth

import (
	"errors"
	"net/http"
	"strings"
	"testing"
)

// A scheme authenticates requests whose credentials are its name.
type scheme struct {
	name string
	err  error
}

func (s scheme) Authenticate(r *http.Request) (Subject, error) {
	if r.Header.Get("Authorization") != s.name {
		return Subject{}, ErrForeign
	}
	return Subject{Name: s.name}, s.err
}

// silent knows nothing and says so by the zero Subject.
type silent struct{}

func (silent) Authenticate(*http.Request) (Subject, error) { return Subject{}, nil }

func TestMethods(t *testing.T) {
	methods := Methods{silent{}, scheme{name: "one"}, scheme{name: "two", err: ErrToken}, scheme{name: "two"}}
	for _, test := range []struct {
		given []string
		name  string
		err   error
	}{
		{nil, "", nil},
		{[]string{"Basic Og=="}, "", nil},
		{[]string{"one"}, "one", nil},
		{[]string{"two"}, "two", ErrToken},
		{[]string{"three"}, "", ErrForeign},
		{[]string{""}, "", ErrForeign},
		{[]string{"Bearer elsewhere"}, "", ErrForeign},
		{[]string{"bearer elsewhere"}, "", ErrToken},
		{[]string{"Basic Og==", "one"}, "", ErrForeign},
	} {
		r, err := http.NewRequest("GET", "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if test.given != nil {
			r.Header["Authorization"] = test.given
		}
		s, err := methods.Authenticate(r)
		if s.Name != test.name || !errors.Is(err, test.err) {
			t.Errorf("%q: %q, %v; want %q, %v", test.given, s.Name, err, test.name, test.err)
		}
		if test.err == ErrForeign && errors.Is(err, ErrToken) != strings.HasPrefix(strings.Join(test.given, ""), "Bearer ") {
			t.Errorf("%q: %v", test.given, err)
		}
	}
}
