// Package admin is the way in for commands: a small JSON API by which they read and change a server that runs, and the
// Unix socket that it is served on. A part of the server that commands reach registers a [Route]; [Client] is the other side.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/sirupsen/logrus"

	"berth/auth"
	"berth/registry/observe"
)

// maxBody bounds the body of a request, in bytes: the largest is a configuration.
const maxBody = 4 << 20

// A Route is what the API does for a method on a path. All its fields are required.
type Route struct {
	Method string
	// Path is a pattern of [http.ServeMux] such as /v1/repositories/{name...}, without a method.
	Path string
	// Access says what a request needs; at least one access.
	Access func(*Request) ([]auth.Access, error)
	// Serve returns what is answered as JSON, nil for nothing, or a [Stream]. See [Problem] for its errors.
	Serve func(*Request) (any, error)
}

// A Request is a request on its way through its route.
type Request struct {
	*http.Request
	ID      string       // of the request, as in the access log
	Subject auth.Subject // who asks
}

// Decode fills v from the body, which must be one JSON value of at most 4 MiB that has no unknown members. Its error is
// one of the client.
func (r *Request) Decode(v any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil {
		if _, end := dec.Token(); end != io.EOF {
			err = errors.New("something follows the JSON value")
		}
	}
	if err == nil {
		return nil
	}
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return &Problem{Status: http.StatusRequestEntityTooLarge, Code: "TOO_LARGE", Message: fmt.Sprintf("the body has more than %d bytes", large.Limit)}
	}
	return &Problem{Status: http.StatusBadRequest, Code: "INVALID", Message: "the body of the request: " + err.Error()}
}

// Administer is the access to the registry as a whole that most routes need.
func Administer(*Request) ([]auth.Access, error) { return []auth.Access{{Action: auth.Admin}}, nil }

// API is the http.Handler of the routes.
type API struct {
	mux           *http.ServeMux
	authenticator auth.Authenticator
	authorizer    auth.Authorizer
	log           logrus.FieldLogger
}

// New makes the API. Every request goes to authenticator, and to authorizer with the accesses of its route, before the
// route sees it. What fails through no fault of the client is logged. It is an error when a route lacks a field.
func New(authenticator auth.Authenticator, authorizer auth.Authorizer, log logrus.FieldLogger, routes ...Route) (*API, error) {
	a := &API{mux: http.NewServeMux(), authenticator: authenticator, authorizer: authorizer, log: log}
	for _, route := range routes {
		if route.Method == "" || route.Path == "" || route.Access == nil || route.Serve == nil {
			return nil, fmt.Errorf("the route %s %q of the admin API lacks a field", route.Method, route.Path)
		}
		a.mux.Handle(route.Method+" "+route.Path, a.handler(route))
	}
	a.mux.Handle("/", a.handler(Route{Access: Administer, Serve: func(*Request) (any, error) { return nil, errNoRoute }}))
	return a, nil
}

func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// handler is the way of every request: authenticate, authorize, serve, and one place for errors.
func (a *API) handler(route Route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := observe.Of(w, r)
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		q := &Request{Request: r, ID: x.ID}
		answer, err := a.serve(route, q, x)
		if err != nil {
			a.writeError(x, q, err)
			return
		}
		if parts, ok := answer.(Stream); ok {
			a.stream(x, q, parts)
			return
		}
		write(x, http.StatusOK, answer)
	})
}

func (a *API) serve(route Route, q *Request, x *observe.Exchange) (answer any, err error) {
	if q.Subject, err = a.authenticator.Authenticate(q.Request); err != nil {
		return nil, err
	}
	x.Subject = q.Subject.Name
	want, err := route.Access(q)
	if err != nil {
		return nil, err
	}
	if len(want) == 0 {
		return nil, errors.New("the route asks for no access")
	}
	if err := a.authorizer.Authorize(q.Context(), q.Subject, want...); err != nil {
		return nil, err
	}
	return route.Serve(q)
}

// write answers with JSON; a nil value has no body.
func write(w *observe.Exchange, status int, value any) {
	if value == nil && status == http.StatusOK {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	body, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Errorf("encode the answer: %w", err))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a client that left
}

// Call is Serve of a route whose requests have a JSON body of type In.
func Call[In, Out any](do func(ctx context.Context, in In) (Out, error)) func(*Request) (any, error) {
	return func(r *Request) (any, error) {
		var in In
		if err := r.Decode(&in); err != nil {
			return nil, err
		}
		return do(r.Context(), in)
	}
}

// Ask is Serve of a route whose requests have no body.
func Ask[Out any](do func(ctx context.Context) (Out, error)) func(*Request) (any, error) {
	return func(r *Request) (any, error) { return do(r.Context()) }
}
