package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/sirupsen/logrus"

	"berth/auth"
	"berth/registry"
	"berth/registry/gate"
	"berth/registry/observe"
)

// A problem is an error as a client is told of it. Handlers return errors of the domain; problems are made here, and
// where HTTP itself is what went wrong.
type problem struct {
	status  int
	code    string // of the OCI distribution specification, section "Error Codes", for all statuses 4xx
	message string
	detail  any
	header  [2]string // name and value of a header that goes with it; the name is "" for none
	unread  bool      // the body of the request was not looked at
	err     error     // for the log
}

func (p *problem) Error() string {
	if p.err != nil {
		return p.message + ": " + p.err.Error()
	}
	return p.message
}

func (p *problem) Unwrap() error { return p.err }

var errNoRoute = &problem{status: http.StatusNotFound, code: "UNSUPPORTED", message: "the registry has no such endpoint"}

func invalid(message string) *problem {
	return &problem{status: http.StatusBadRequest, code: "UNSUPPORTED", message: message}
}

// tooMany turns a request away for now.
func tooMany(err error, retryAfter time.Duration) *problem {
	seconds := max(1, int((retryAfter+time.Second-1)/time.Second))
	return &problem{status: http.StatusTooManyRequests, code: "TOOMANYREQUESTS", message: err.Error(),
		header: [2]string{"Retry-After", strconv.Itoa(seconds)}, unread: true, err: err}
}

// bodyError marks an error of reading a request's body: of the client or of the connection, never of the store.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return "read the body of the request: " + e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }

// retrySoon is how many seconds a client is asked to wait while the store is unavailable.
const retrySoon = "5"

// A full store answers 507 and not 503: waiting does not help, and clients repeat a 503 again and again.
var problems = map[registry.Code]problem{
	registry.NameInvalid:         {status: 400, code: "NAME_INVALID", message: "invalid repository name"},
	registry.NameUnknown:         {status: 404, code: "NAME_UNKNOWN", message: "repository name not known to registry"},
	registry.DigestInvalid:       {status: 400, code: "DIGEST_INVALID", message: "provided digest did not match uploaded content"},
	registry.TagInvalid:          {status: 400, code: "MANIFEST_INVALID", message: "invalid tag"},
	registry.BlobUnknown:         {status: 404, code: "BLOB_UNKNOWN", message: "blob unknown to registry"},
	registry.UploadUnknown:       {status: 404, code: "BLOB_UPLOAD_UNKNOWN", message: "blob upload unknown to registry"},
	registry.UploadInvalid:       {status: 400, code: "BLOB_UPLOAD_INVALID", message: "blob upload invalid"},
	registry.RangeInvalid:        {status: 416, code: "BLOB_UPLOAD_INVALID", message: "the chunk does not continue the upload"},
	registry.SizeInvalid:         {status: 400, code: "SIZE_INVALID", message: "provided length did not match content length"},
	registry.BlobTooLarge:        {status: 413, code: "SIZE_INVALID", message: "blob too large"},
	registry.ManifestUnknown:     {status: 404, code: "MANIFEST_UNKNOWN", message: "manifest unknown to registry"},
	registry.ManifestInvalid:     {status: 400, code: "MANIFEST_INVALID", message: "manifest invalid"},
	registry.ManifestTooLarge:    {status: 413, code: "MANIFEST_INVALID", message: "manifest too large"},
	registry.ManifestBlobUnknown: {status: 404, code: "MANIFEST_BLOB_UNKNOWN", message: "manifest references content unknown to registry"},
	registry.PreconditionFailed:  {status: 412, code: "MANIFEST_INVALID", message: "the precondition does not hold"},
	registry.Denied:              {status: 403, code: "DENIED", message: "the tag is to stay as it is"},
	registry.Unsupported:         {status: 405, code: "UNSUPPORTED", message: "the operation is unsupported"},
	registry.Unavailable:         {status: 503, code: "UNAVAILABLE", message: "the storage is unavailable", header: [2]string{"Retry-After", retrySoon}},
	registry.NoSpace:             {status: 507, code: "UNAVAILABLE", message: "the storage is full"},
}

// explain turns an error into what the client is told. What it does not know is an error of ours, of which the client
// learns nothing but where to find it.
func explain(err error, requestID string) problem {
	var p *problem
	var broken *bodyError
	var busy *gate.Error
	var known *registry.Error
	switch {
	case errors.As(err, &p):
		return *p
	case errors.As(err, &broken):
		return explainBody(broken)
	case errors.As(err, &busy):
		return *tooMany(busy, busy.RetryAfter)
	case errors.As(err, &known):
		if p, ok := problems[known.Code]; ok {
			if known.Message != "" {
				p.message = known.Message
			}
			p.detail, p.err = known.Detail, err
			return p
		}
	case errors.Is(err, context.DeadlineExceeded):
		p := problems[registry.Unavailable]
		p.err = err
		return p
	}
	return problem{status: 500, code: "UNKNOWN", message: observe.InternalMessage(requestID), err: err}
}

func explainBody(broken *bodyError) problem {
	status, message := http.StatusBadRequest, "the body of the request broke off"
	if errors.Is(broken, os.ErrDeadlineExceeded) {
		status, message = http.StatusRequestTimeout, "the body of the request stalled"
	}
	return problem{status: status, code: "SIZE_INVALID", message: message, err: broken}
}

// explainUnknown turns the refusal of an Authenticator into what the client is told.
func (a *API) explainUnknown(c *call, want []auth.Access, err error) error {
	var throttled *auth.ThrottledError
	switch {
	case errors.As(err, &throttled):
		return tooMany(throttled, throttled.RetryAfter)
	case errors.Is(err, auth.ErrUnavailable):
		return &problem{status: http.StatusServiceUnavailable, code: "UNAVAILABLE", message: auth.ErrUnavailable.Error(),
			header: [2]string{"Retry-After", retrySoon}, err: err}
	case errors.Is(err, auth.ErrDenied):
		return &problem{status: http.StatusForbidden, code: "DENIED", message: err.Error(), detail: resources(want), err: err}
	}
	for _, known := range []error{auth.ErrCredentials, auth.ErrMalformed, auth.ErrToken, auth.ErrForeign} {
		if errors.Is(err, known) {
			return a.unauthorized(c, want, err.Error(), err)
		}
	}
	return err
}

// explainDenied turns the refusal of an Authorizer into what the client is told: one that did not say who it is may log in,
// and one whose token is too narrow may get a wider one.
func (a *API) explainDenied(c *call, want []auth.Access, err error) error {
	var denied *auth.DeniedError
	known := errors.As(err, &denied)
	switch {
	case !errors.Is(err, auth.ErrDenied):
		return err
	case c.subject.Name == "":
		return a.unauthorized(c, want, "authentication required", err)
	case known && denied.Scoped:
		return a.unauthorized(c, want, denied.Error(), err)
	}
	p := &problem{status: http.StatusForbidden, code: "DENIED", message: auth.ErrDenied.Error(), detail: resources(want), err: err}
	if known {
		p.message, p.detail = denied.Error(), resources([]auth.Access{denied.Missing})
	}
	return p
}

// unauthorized tells a client how to log in. Where nobody can, it is merely refused.
func (a *API) unauthorized(c *call, want []auth.Access, message string, err error) error {
	if a.o.Challenge == nil {
		return &problem{status: http.StatusForbidden, code: "DENIED", message: auth.ErrDenied.Error(), detail: resources(want), err: err}
	}
	return &problem{status: http.StatusUnauthorized, code: "UNAUTHORIZED", message: message, detail: resources(want), err: err,
		header: [2]string{"WWW-Authenticate", a.challenge(c, want, err)}}
}

// A resource is an access as the details of errors have it, in the registry of the distribution project and its clients.
type resource struct {
	Type   string
	Class  string
	Name   string
	Action auth.Action
}

func resources(want []auth.Access) []resource {
	list := make([]resource, len(want))
	for i, access := range want {
		list[i] = resource{Type: "repository", Name: access.Repository, Action: access.Action}
		if access.Repository == "" {
			list[i].Type = "registry"
		}
	}
	return list
}

// writeError answers with an error. It is the only place that does.
func (a *API) writeError(w *observe.Exchange, r *http.Request, err error) {
	if left(r, err) {
		panic(http.ErrAbortHandler) // nobody is there to be answered
	}
	if busy, ok := errors.AsType[*gate.Error](err); ok {
		a.logTurnedAway(w, r, busy)
	}
	p := explain(err, w.ID)
	if p.status >= 500 && !p.unread {
		a.log.WithFields(logrus.Fields{
			"http.request.id": w.ID, "http.request.method": r.Method, "http.request.uri": r.RequestURI,
			"http.response.status": p.status, logrus.ErrorKey: err,
		}).Error("a request failed")
	}
	if w.Status() != 0 {
		panic(http.ErrAbortHandler) // part of the answer is out: nothing may make it look whole
	}
	h := w.Header()
	for _, name := range []string{"Etag", "Cache-Control", "Last-Modified", "Docker-Content-Digest"} {
		h.Del(name)
	}
	if p.header[0] != "" {
		h.Set(p.header[0], p.header[1])
	}
	if p.unread && r.ContentLength != 0 && r.ProtoMajor == 1 {
		h.Set("Connection", "close") // or net/http would read some of the body before it answers
	}
	body := errorBody(p)
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(p.status)
	_, _ = w.Write(body) // a client that is gone needs no error
}

// left reports whether an error says that the client went away.
func left(r *http.Request, err error) bool {
	if turned, ok := errors.AsType[*gate.Error](err); ok {
		return turned.Reason == gate.ClientLeft
	}
	return errors.Is(err, context.Canceled) && r.Context().Err() != nil
}

func errorBody(p problem) []byte {
	type entry struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Detail  any    `json:"detail,omitempty"`
	}
	type document struct {
		Errors []entry `json:"errors"`
	}
	body, err := json.Marshal(document{[]entry{{p.code, p.message, p.detail}}})
	if err != nil { // a detail that is not JSON
		body, _ = json.Marshal(document{[]entry{{p.code, p.message, nil}}})
	}
	return append(body, '\n')
}
