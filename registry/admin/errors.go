package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/sirupsen/logrus"

	"berth/auth"
	"berth/registry"
	"berth/registry/observe"
)

// A Problem is an error as a client is told of it. Routes return one, or errors of the domain and of authorizers; of any
// other error the client learns nothing but the id of its request.
type Problem struct {
	Status  int    `json:"-"`
	Code    string `json:"code"`
	Message string `json:"message"`
	// RequestID finds the request in the logs of the server.
	RequestID string `json:"request_id"`
	// Err is for the log.
	Err error `json:"-"`
}

func (p *Problem) Error() string { return p.Message }

// Unwrap returns Err.
func (p *Problem) Unwrap() error { return p.Err }

// A failure is the body of an answer that is an error.
type failure struct {
	Error *Problem `json:"error"`
}

var errNoRoute = &Problem{Status: http.StatusNotFound, Code: "UNSUPPORTED",
	Message: "the server has no such endpoint; it may be older or newer than this command"}

// Refused is the error of a route that cannot do what was asked, and the reason that the client is told.
func Refused(err error) error {
	return &Problem{Status: http.StatusConflict, Code: "REFUSED", Message: err.Error()}
}

// explain turns an error into what the client is told.
func explain(err error, id string) Problem {
	var p *Problem
	var known *registry.Error
	explained := Problem{Status: http.StatusInternalServerError, Code: "UNKNOWN", Message: observe.InternalMessage(id), Err: err}
	switch {
	case errors.As(err, &p):
		explained = *p
	case errors.Is(err, auth.ErrReadOnly):
		explained = Problem{Status: http.StatusMethodNotAllowed, Code: "READ_ONLY", Message: err.Error()}
	case errors.Is(err, auth.ErrDenied), errors.Is(err, auth.ErrForeign), errors.Is(err, auth.ErrCredentials), errors.Is(err, auth.ErrMalformed):
		explained = Problem{Status: http.StatusForbidden, Code: "DENIED", Message: err.Error()}
	case errors.As(err, &known) && known.Message != "":
		explained = Problem{Status: statusOf(known.Code), Code: "REGISTRY", Message: known.Message, Err: err}
	}
	explained.RequestID = id
	return explained
}

// statusOf is the status for an error of the domain. Commands go by the message.
func statusOf(code registry.Code) int {
	unknown := []registry.Code{registry.NameUnknown, registry.BlobUnknown, registry.ManifestUnknown, registry.UploadUnknown}
	switch {
	case slices.Contains(unknown, code):
		return http.StatusNotFound
	case code == registry.Denied:
		return http.StatusForbidden
	case code == registry.Unavailable:
		return http.StatusServiceUnavailable
	case code == registry.NoSpace:
		return http.StatusInsufficientStorage
	}
	return http.StatusBadRequest
}

// writeError answers with an error. It is the only place that does.
func (a *API) writeError(w *observe.Exchange, q *Request, err error) {
	p := a.told(q, err)
	write(w, p.Status, failure{&p})
}

// told returns what the client is told of an error, and logs one that is ours.
func (a *API) told(q *Request, err error) Problem {
	if errors.Is(err, context.Canceled) && q.Context().Err() != nil {
		panic(http.ErrAbortHandler) // nobody is there to be answered
	}
	p := explain(err, q.ID)
	if p.Status >= http.StatusInternalServerError {
		a.log.WithFields(logrus.Fields{"http.request.id": q.ID, "http.request.uri": q.RequestURI}).WithError(err).Error("a request of a command failed")
	}
	return p
}
