package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"

	"berth/auth"
	"berth/registry"
	"berth/registry/observe"
)

// someone is whoever the header says.
type someone struct{}

func (someone) Authenticate(r *http.Request) (auth.Subject, error) {
	if r.Header.Get("User") == "stranger" {
		return auth.Subject{}, fmt.Errorf("%w: who is that", auth.ErrDenied)
	}
	return auth.Subject{Name: r.Header.Get("User")}, nil
}

// onlyAnn lets ann do what is not for the repository "closed".
type onlyAnn struct{ asked []auth.Access }

func (o *onlyAnn) Authorize(_ context.Context, s auth.Subject, want ...auth.Access) error {
	o.asked = append(o.asked, want...)
	if s.Name != "ann" {
		return &auth.DeniedError{Subject: s, Want: want, Missing: want[0]}
	}
	if want[0].Repository == "closed" {
		return auth.ErrReadOnly
	}
	return nil
}

type numbers struct{ A, B int }

func testAPI(t *testing.T, authorizer auth.Authorizer, log *bytes.Buffer) http.Handler {
	t.Helper()
	logger := logrus.New()
	logger.Out = log
	ofName := func(r *Request) ([]auth.Access, error) {
		return []auth.Access{{Action: auth.Delete, Repository: r.PathValue("name")}}, nil
	}
	fail := func(err error) func(*Request) (any, error) {
		return func(*Request) (any, error) { return nil, err }
	}
	a, err := New(someone{}, authorizer, logger,
		Route{"POST", "/v1/sum", Administer, Call(func(_ context.Context, in numbers) (int, error) { return in.A + in.B, nil })},
		Route{"DELETE", "/v1/repositories/{name...}", ofName, func(r *Request) (any, error) { return nil, nil }},
		Route{"GET", "/v1/refused", Administer, fail(Refused(errors.New("not now")))},
		Route{"GET", "/v1/internal", Administer, fail(errors.New("the secret of the disk"))},
		Route{"GET", "/v1/unknown", Administer, fail(&registry.Error{Code: registry.NameUnknown, Message: "no repository a"})},
		Route{"GET", "/v1/panic", Administer, func(*Request) (any, error) { panic("at the disk") }},
		Route{"GET", "/v1/nothing", func(*Request) ([]auth.Access, error) { return nil, nil }, fail(nil)},
	)
	if err != nil {
		t.Fatal(err)
	}
	return observe.Handler(a, observe.Options{}, logger)
}

func TestAPI(t *testing.T) {
	for _, test := range []struct {
		user, method, path, body string
		status                   int
		answer, logged           string
	}{
		{"ann", "POST", "/v1/sum", `{"A":2,"B":3}`, 200, "5\n", ""},
		{"ann", "DELETE", "/v1/repositories/team/app", "", 204, "", ""},
		{"ann", "DELETE", "/v1/repositories/closed", "", 405, "read-only", ""},
		{"bob", "POST", "/v1/sum", `{"A":2,"B":3}`, 403, `\"bob\" may not admin on the registry`, ""},
		{"", "POST", "/v1/sum", `{"A":2,"B":3}`, 403, "anonymous may not", ""},
		{"stranger", "POST", "/v1/sum", `{}`, 403, "who is that", ""},
		{"bob", "GET", "/elsewhere", "", 403, "may not", ""},
		{"ann", "GET", "/elsewhere", "", 404, "no such endpoint", ""},
		{"ann", "GET", "/v1/sum", "", 404, "no such endpoint", ""},
		{"ann", "POST", "/v1/sum", `{"A":2,"C":3}`, 400, "unknown field", ""},
		{"ann", "POST", "/v1/sum", `{"A":`, 400, "unexpected EOF", ""},
		{"ann", "POST", "/v1/sum", `{} {}`, 400, "something follows", ""},
		{"ann", "POST", "/v1/sum", `{"A":` + strings.Repeat(" ", maxBody) + `1}`, 413, "more than 4194304 bytes", ""},
		{"ann", "GET", "/v1/refused", "", 409, "not now", ""},
		{"ann", "GET", "/v1/unknown", "", 404, "no repository a", ""},
		{"ann", "GET", "/v1/internal", "", 500, "internal error", "the secret of the disk"},
		{"ann", "GET", "/v1/panic", "", 500, "internal error", "at the disk"},
		{"ann", "GET", "/v1/nothing", "", 500, "internal error", "asks for no access"},
	} {
		var log bytes.Buffer
		authorizer := &onlyAnn{}
		r := httptest.NewRequest(test.method, test.path, strings.NewReader(test.body))
		r.Header.Set("User", test.user)
		w := httptest.NewRecorder()
		testAPI(t, authorizer, &log).ServeHTTP(w, r)
		answer := w.Body.String()
		if w.Code != test.status || !strings.Contains(answer, test.answer) {
			t.Errorf("%s %s as %q: %d %s, want %d %s", test.method, test.path, test.user, w.Code, answer, test.status, test.answer)
		}
		if test.status >= 400 && (w.Header().Get("Content-Type") != "application/json" || !strings.Contains(answer, w.Header().Get(observe.IDHeader))) {
			t.Errorf("%s %s: the error has no request id, or is no JSON: %s %s", test.method, test.path, w.Header(), answer)
		}
		if (test.logged != "") != (log.Len() > 0) || !strings.Contains(log.String(), test.logged) || test.logged != "" && strings.Contains(answer, test.logged) {
			t.Errorf("%s %s: answered %s and logged %s, want %q", test.method, test.path, answer, &log, test.logged)
		}
		if test.user != "stranger" && test.path != "/v1/nothing" && len(authorizer.asked) != 1 {
			t.Errorf("%s %s: authorized %v", test.method, test.path, authorizer.asked)
		}
	}
}

func TestRouteMustBeWhole(t *testing.T) {
	serve := func(*Request) (any, error) { return nil, nil }
	for _, route := range []Route{
		{"", "/a", Administer, serve}, {"GET", "", Administer, serve}, {"GET", "/a", nil, serve}, {"GET", "/a", Administer, nil},
	} {
		if _, err := New(someone{}, auth.AllowAll{}, logrus.New(), route); err == nil {
			t.Errorf("%s %q without a field is taken", route.Method, route.Path)
		}
	}
}

func TestDecodeAnswer(t *testing.T) {
	var out numbers
	if err := decodeAnswer(200, []byte(`{"A":1}`), &out); err != nil || out.A != 1 {
		t.Errorf("%v, %v", out, err)
	}
	var p *Problem
	if err := decodeAnswer(404, []byte(`{"error":{"code":"X","message":"gone","request_id":"7"}}`), nil); !errors.As(err, &p) || p.Status != 404 || p.RequestID != "7" {
		t.Errorf("%v", err)
	}
	for _, body := range []string{"", "<html>", `{"error":{}}`, `{}`, "null"} {
		if err := decodeAnswer(502, []byte(body), nil); err == nil || !strings.Contains(err.Error(), "status 502") {
			t.Errorf("%q: %v", body, err)
		}
	}
	if err := decodeAnswer(200, []byte(`[`), &out); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
}
