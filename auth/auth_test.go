package auth_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"

	"berth/auth"
)

func TestDeniedError(t *testing.T) {
	var err error = &auth.DeniedError{
		Subject: auth.Subject{Name: "alice"},
		Want:    []auth.Access{{Action: auth.Pull, Repository: "a"}, {Action: auth.Push, Repository: "a"}},
		Missing: auth.Access{Action: auth.Push, Repository: "a"},
	}
	if !errors.Is(err, auth.ErrDenied) {
		t.Error("does not match ErrDenied")
	}
	if want := `access denied: "alice" may not push on the repository "a"`; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	err = &auth.DeniedError{Missing: auth.Access{Action: auth.List}}
	if want := "access denied: anonymous may not list on the registry"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestLocal(t *testing.T) {
	for origin, allowed := range map[string]bool{
		"": true, "http://localhost": true, "http://localhost:8080": true, "https://ui.localhost": true, "http://127.0.0.1:5000": true,
		"http://127.8.8.8": true, "http://[::1]:5000": true, "http://[::ffff:127.0.0.1]": true,
		"null": false, "http://evil.example:5000": false, "http://localhost.evil.example": false, "http://127.0.0.1.evil.example": false,
		"http://192.0.2.1": false, "http://0.0.0.0": false, "localhost": false, "http://localhost@evil.example": false, "%": false,
	} {
		for _, method := range []string{"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"} {
			r := &http.Request{Method: method, Header: http.Header{}}
			if origin != "" {
				r.Header.Set("Origin", origin)
			}
			s, err := auth.Local{}.Authenticate(r)
			if want := allowed || strings.Contains("GET HEAD OPTIONS", method); (err == nil) != want || err != nil && !errors.Is(err, auth.ErrDenied) || s.Name != "" {
				t.Errorf("%s from %q: %v", method, origin, err)
			}
		}
	}
}

func TestReadOnly(t *testing.T) {
	on := true
	a := auth.ReadOnly{On: func() bool { return on }, Next: auth.AllowAll{}}
	for action, want := range map[auth.Action]error{
		auth.Pull: nil, auth.List: nil, auth.Metrics: nil, auth.Push: auth.ErrReadOnly, auth.Delete: auth.ErrReadOnly,
	} {
		err := a.Authorize(context.Background(), auth.Subject{}, auth.Access{Action: auth.Pull, Repository: "a"}, auth.Access{Action: action, Repository: "a"})
		if !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("%s: got %v, want %v", action, err, want)
		}
	}
	on = false
	if err := a.Authorize(context.Background(), auth.Subject{}, auth.Access{Action: auth.Push, Repository: "a"}); err != nil {
		t.Errorf("push when it is off: %v", err)
	}
}

func request(headers ...string) *http.Request {
	r := &http.Request{Header: http.Header{}}
	for _, h := range headers {
		r.Header.Add("Authorization", h)
	}
	return r
}

func basic(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(s)) }

func TestBasicCredentials(t *testing.T) {
	for _, test := range []struct {
		name           string
		headers        []string
		user, password string
		ok, malformed  bool
	}{
		{name: "none"},
		{name: "usual", headers: []string{basic("alice:secret")}, user: "alice", password: "secret", ok: true},
		{name: "scheme in any case", headers: []string{"bASIC YTpi"}, user: "a", password: "b", ok: true},
		{name: "spaces", headers: []string{"Basic   YTpi "}, user: "a", password: "b", ok: true},
		{name: "password with colons", headers: []string{basic("a:b:c")}, user: "a", password: "b:c", ok: true},
		{name: "no user name", headers: []string{basic(":token")}, password: "token", ok: true},
		{name: "no password", headers: []string{basic("a:")}, user: "a", ok: true},
		{name: "without padding", headers: []string{"Basic YWI6Yw"}, user: "ab", password: "c", ok: true},
		{name: "not ASCII", headers: []string{basic("zoë:pä")}, user: "zoë", password: "pä", ok: true},
		{name: "another scheme", headers: []string{"Bearer abc"}},
		{name: "a longer scheme", headers: []string{"Basically YTpi"}},
		{name: "empty", headers: []string{""}},
		{name: "scheme alone", headers: []string{"Basic"}, malformed: true},
		{name: "scheme and blank", headers: []string{"Basic "}, malformed: true},
		{name: "not base64", headers: []string{"Basic a:b"}, malformed: true},
		{name: "URL alphabet", headers: []string{"Basic _-8="}, malformed: true},
		{name: "no colon", headers: []string{basic("alice")}, malformed: true},
		{name: "control character", headers: []string{basic("al\x00ice:x")}, malformed: true},
		{name: "line feed", headers: []string{basic("alice:x\n")}, malformed: true},
		{name: "two", headers: []string{basic("a:b"), basic("a:c")}, malformed: true},
		{name: "too long", headers: []string{basic("a:" + strings.Repeat("x", 32<<10))}, malformed: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			user, password, ok, err := auth.BasicCredentials(request(test.headers...))
			if user != test.user || password != test.password || ok != test.ok || errors.Is(err, auth.ErrMalformed) != test.malformed ||
				(err != nil) != test.malformed {
				t.Errorf("got %q, %q, %t, %v", user, password, ok, err)
			}
		})
	}
}

func TestBearerToken(t *testing.T) {
	for _, test := range []struct {
		header, token string
		ok, malformed bool
	}{
		{header: "Bearer abc.def-_~+/=", token: "abc.def-_~+/=", ok: true},
		{header: "bearer  abc", token: "abc", ok: true},
		{header: basic("a:b")},
		{header: "Bearer", malformed: true},
		{header: "Bearer a b", malformed: true},
		{header: "Bearer a\x7f", malformed: true},
		{header: "Bearer ä", malformed: true},
	} {
		token, ok, err := auth.BearerToken(request(test.header))
		if token != test.token || ok != test.ok || errors.Is(err, auth.ErrMalformed) != test.malformed {
			t.Errorf("%q: got %q, %t, %v", test.header, token, ok, err)
		}
	}
}

func FuzzAuthorization(f *testing.F) {
	for _, seed := range []string{"", "Basic", basic("alice:secret"), "Basic YWI6Yw", "Bearer abc", "Bearer a b", basic("\x00:"), "basic  ="} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		user, password, isBasic, err := auth.BasicCredentials(request(header))
		if isBasic {
			if err != nil || strings.Contains(user, ":") || strings.ContainsAny(user+password, "\x00\r\n\x7f") {
				t.Errorf("%q: got %q, %q, %v", header, user, password, err)
			}
			again, pass, ok, err := auth.BasicCredentials(request(basic(user + ":" + password)))
			if again != user || pass != password || !ok || err != nil {
				t.Errorf("%q: %q, %q do not survive: %q, %q, %v", header, user, password, again, pass, err)
			}
		} else if user != "" || password != "" || err != nil && !errors.Is(err, auth.ErrMalformed) {
			t.Errorf("%q: got %q, %q, %v", header, user, password, err)
		}
		token, isBearer, err := auth.BearerToken(request(header))
		if isBasic && isBearer || isBearer && (token == "" || err != nil) || !isBearer && token != "" {
			t.Errorf("%q: got the token %q, %t, %v", header, token, isBearer, err)
		}
	})
}
