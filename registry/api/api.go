// Package api is the OCI distribution API over HTTP: it parses each request once into typed values, finds its route in
// one table, authenticates, authorizes and admits it in one place, and lets a handler make one call of the domain.
package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"berth/auth"
	"berth/auth/pass"
	"berth/registry"
	"berth/registry/gate"
	"berth/registry/observe"
)

// Options: nil means defaults.
type Options struct {
	// Host is the scheme and host of URLs, as in https://registry.example.org; "" takes them from each request.
	Host string
	// Prefix stands before /v2/ in paths, as in "/registry"; "" for none.
	Prefix string
	// RelativeURLs leaves scheme and host out of URLs.
	RelativeURLs bool
	// Headers go with every response. Those of CORS decide who may ask from a browser.
	Headers http.Header
	// DeleteEnabled allows manifests, tags and blobs to be deleted.
	DeleteEnabled bool
	// MaxManifest is the size of the largest manifest, in bytes. 0: 4 MiB.
	MaxManifest int64
	// MaxTags bounds a page of tags when a client asks for pages. 0: 1,000.
	MaxTags int
	// MaxCatalog bounds a page of the catalog. 0: 1,000.
	MaxCatalog int
	// ChunkMinLength is the smallest chunk that clients are asked to send, in bytes. 0: they are not asked.
	ChunkMinLength int64
	// Challenge makes the WWW-Authenticate header for a client that lacks the accesses. err says why: an error of the
	// Authenticator or of the Authorizer, nil for a client that is merely told how to log in. Nil: nobody can log in.
	Challenge func(r *http.Request, want []auth.Access, err error) string
	// Passes are the tokens that clients are sent to tokenPath for, while SendForPasses reports true. Nil: there are none.
	Passes        *pass.Office
	SendForPasses func() bool
	// CheckName says why a repository that is to be created cannot have a name. Nil: it can have any.
	CheckName func(repository string) error
	// MayMoveTags reports whether one who pushes may also move the tags of a repository. Nil: always.
	MayMoveTags func(s *auth.Subject, repository string) bool
	// MayChange says why content cannot be changed, or deleted, for now. Nil: it always can.
	MayChange func(ctx context.Context, deletes bool) error
	// Gate lets each request in before it is served. Nil: there are no limits.
	Gate *gate.Gate
	// Redirect reports whether who asks for a blob may be sent to the storage itself, by a URL that is good for
	// RedirectExpiry. Nil: nobody is.
	Redirect       func(*http.Request) bool
	RedirectExpiry time.Duration
	// Log gets the requests that failed through no fault of the client. Nil: they are not logged.
	Log logrus.FieldLogger
}

// API is the http.Handler of the OCI distribution API.
type API struct {
	registry      *registry.Registry
	authenticator auth.Authenticator
	authorizer    auth.Authorizer
	o             Options
	urls          urls
	headers       headers
	log           logrus.FieldLogger
	turnedAway    sampler
}

// New makes the API of a registry.
func New(reg *registry.Registry, authenticator auth.Authenticator, authorizer auth.Authorizer, o *Options) (*API, error) {
	a := &API{registry: reg, authenticator: authenticator, authorizer: authorizer}
	if o != nil {
		a.o = *o
	}
	for limit, fallback := range map[*int]int{&a.o.MaxTags: 1000, &a.o.MaxCatalog: 1000} {
		if *limit <= 0 {
			*limit = fallback
		}
	}
	if a.o.MaxManifest <= 0 {
		a.o.MaxManifest = 4 << 20
	}
	if a.log = a.o.Log; a.log == nil {
		discard := logrus.New()
		discard.Out = io.Discard
		a.log = discard
	}
	if a.o.Gate == nil {
		a.o.Gate = gate.New(gate.Limits{}, nil)
	}
	a.headers = newHeaders(a.o.Headers)
	var err error
	a.urls, err = newURLs(a.o.Host, a.o.Prefix, a.o.RelativeURLs)
	return a, err
}

// A call is a request on its way through its handler.
type call struct {
	*request
	w       *observe.Exchange
	r       *http.Request
	subject auth.Subject
	ticket  gate.Ticket
	sending int64           // bytes of a blob that the answer has
	wanted  []registry.Span // which these are
}

func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := observe.Of(w, r)
	a.headers.set(x.Header(), r)
	if err := a.serve(x, r); err != nil {
		a.writeError(x, r, err)
	}
}

// serve is the way of every request: parse, authenticate, authorize, admit, serve.
func (a *API) serve(w *observe.Exchange, r *http.Request) error {
	if err := a.o.Gate.Arrive(gate.ClientAt(r.RemoteAddr, ""), classOf(r.Method)); err != nil {
		return err
	}
	path, ok := strings.CutPrefix(r.URL.EscapedPath(), a.urls.prefix)
	if !ok {
		return errNoRoute
	}
	q, err := parse(r.Method, path, r.URL.RawQuery)
	if err != nil {
		return err
	}
	c := &call{request: q, w: w, r: r}
	if r.Method == http.MethodOptions {
		return a.admitted(c, false, (*API).options)
	}
	row, ok := find(r.Method, q.kind)
	if !ok {
		return notAllowed(q.kind, a.offers, "the method "+r.Method+" is not for this path")
	}
	w.Enter(row.counted(c), q.kind == kindManifest && q.reference.IsTag())
	if row.logsIn { // like all authentication before there is a place: a slow one must not take one away
		return row.handle(a, c)
	}
	switch err := a.authorize(c, row.access(q)); {
	case errors.Is(err, auth.ErrReadOnly):
		return notAllowed(q.kind, (*route).reads, "the registry is read-only for now")
	case err != nil:
		return err
	case !a.offers(row):
		return notAllowed(q.kind, a.offers, "deleting is disabled in this registry (storage.delete.enabled)")
	}
	if row.creates {
		if err := a.checkName(c); err != nil {
			return err
		}
	}
	if err := a.mayChange(c); err != nil {
		return err
	}
	return a.admitted(c, row.sends && r.ContentLength != 0, row.handle)
}

// mayChange refuses changes while the storage takes none, before a body is read.
func (a *API) mayChange(c *call) error {
	if a.o.MayChange == nil || classOf(c.r.Method) == gate.Read {
		return nil
	}
	err := a.o.MayChange(c.r.Context(), c.r.Method == http.MethodDelete)
	if err == nil {
		return nil
	}
	return &problem{status: http.StatusServiceUnavailable, code: "UNAVAILABLE", message: "nothing can be changed for now: " + err.Error(),
		header: [2]string{"Retry-After", retrySoon}, unread: true, err: err}
}

// classOf is the class of requests with a method.
func classOf(method string) gate.Class {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return gate.Read
	}
	return gate.Write
}

// admitted serves c once the gate lets it in.
func (a *API) admitted(c *call, upload bool, handle func(*API, *call) error) (err error) {
	c.ticket, err = a.o.Gate.Admit(c.r.Context(), gate.Request{
		Client: gate.ClientAt(c.r.RemoteAddr, c.subject.Name), Class: classOf(c.r.Method), Upload: upload, Gone: c.w.Gone,
	})
	if err != nil {
		return err
	}
	defer c.ticket.Leave()
	return handle(a, c)
}

// authorize finds out who sent c and whether they may do all of want.
func (a *API) authorize(c *call, want []auth.Access) (err error) {
	c.subject, err = a.authenticator.Authenticate(c.r)
	return a.permit(c, want, err)
}

// permit asks whether who sent c may do all of want, unless it was not found out for some reason.
func (a *API) permit(c *call, want []auth.Access, err error) error {
	if err != nil {
		c.w.Outcome = observe.OutcomeOf(c.subject, err)
		if ctxErr := c.r.Context().Err(); ctxErr != nil {
			return ctxErr
		}
		return a.explainUnknown(c, want, err)
	}
	c.w.Subject = c.subject.Name
	err = a.authorizer.Authorize(c.r.Context(), c.subject, want...)
	c.w.Outcome = observe.OutcomeOf(c.subject, err)
	if err != nil {
		return a.explainDenied(c, want, err)
	}
	return nil
}

// may reports whether who sent c may also do this.
func (a *API) may(c *call, want auth.Access) (bool, error) {
	err := a.authorizer.Authorize(c.r.Context(), c.subject, want)
	if errors.Is(err, auth.ErrDenied) || errors.Is(err, auth.ErrReadOnly) {
		return false, nil
	}
	return err == nil, err
}

// checkName refuses to create a repository of a name that is not allowed. One that is there stays in use.
func (a *API) checkName(c *call) error {
	if a.o.CheckName == nil {
		return nil
	}
	reason := a.o.CheckName(c.name.String())
	if reason == nil {
		return nil
	}
	exists, err := a.repository(c).Exists(c.r.Context())
	if err != nil || exists {
		return err
	}
	return &registry.Error{Code: registry.NameInvalid, Message: reason.Error()}
}

// notAllowed refuses a method on a kind of path where these routes are offered.
func notAllowed(k kind, offered func(*route) bool, message string) error {
	return &problem{status: http.StatusMethodNotAllowed, code: "UNSUPPORTED", message: message, header: [2]string{"Allow", allow(k, offered)}}
}

// offers reports whether a route is there, as configured.
func (a *API) offers(r *route) bool { return a.o.DeleteEnabled || !r.deletes }

// options answers OPTIONS to anybody: a browser asks before it sends credentials.
func (a *API) options(c *call) error {
	c.w.Header().Set("Allow", allow(c.kind, a.offers))
	if c.r.Header.Get("Origin") != "" && c.r.Header.Get("Access-Control-Request-Method") != "" {
		return writeEmpty(c.w, http.StatusNoContent)
	}
	return writeEmpty(c.w, http.StatusOK)
}

// root answers /v2/, by which clients find out that this is a registry, and how to log in. Where they are sent for passes,
// whoever has none is refused, also one who is let in everywhere else: the docker engine learns how to log in by a refusal
// only, and gets a pass of nobody's. Otherwise whoever is let in without logging in is told all the same, as RFC 9110,
// section 11.6.1 allows: podman and skopeo log in by it.
func (a *API) root(c *call) error {
	if a.o.Challenge != nil && c.subject.Name == "" && c.subject.Grants == nil && !auth.HasCredentials(c.r) {
		if a.sendsForPasses() {
			return a.unauthorized(c, enter(c.request), "authentication required", nil)
		}
		c.w.Header().Set("WWW-Authenticate", a.challenge(c, enter(c.request), nil))
	}
	return writeBody(c.w, http.StatusOK, "application/json", []byte("{}"))
}

// repository returns the repository that c is for.
func (a *API) repository(c *call) registry.Repository { return a.registry.Repository(c.name) }

// body returns the body of c, with its errors marked as the client's.
func (c *call) body() io.Reader { return clientBody{c.r.Body} }

type clientBody struct{ r io.Reader }

func (b clientBody) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil && err != io.EOF {
		err = &bodyError{err}
	}
	return n, err
}

// writeBody answers with a body that is at hand; for HEAD, net/http leaves it out.
func writeBody(w *observe.Exchange, status int, contentType string, body []byte) error {
	h := w.Header()
	h["Content-Type"] = []string{contentType}
	h["Content-Length"] = []string{itoa(int64(len(body)))}
	w.WriteHeader(status)
	send(w, body)
	return nil
}

// send writes a part of a body. Where that fails nobody is left to be answered.
func send(w *observe.Exchange, part []byte) {
	if _, err := w.Write(part); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// writeEmpty answers without a body.
func writeEmpty(w *observe.Exchange, status int) error {
	if status != http.StatusNoContent {
		w.Header()["Content-Length"] = []string{"0"}
	}
	w.WriteHeader(status)
	return nil
}
