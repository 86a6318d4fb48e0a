package gcs

import (
	"errors"
	"io/fs"
	"net/http"
	"slices"

	"cloud.google.com/go/auth"
	gcs "cloud.google.com/go/storage"
	"google.golang.org/api/googleapi"

	"berth/storage"
	"berth/storage/remote"
)

// answered returns the status of an answer of the service and its reasons, 0 where there was none.
func answered(err error) (status int, reasons []string) {
	var api *googleapi.Error
	if !errors.As(err, &api) {
		return 0, nil
	}
	for _, e := range api.Errors {
		reasons = append(reasons, e.Reason)
	}
	return api.Code, reasons
}

// limits are the reasons by which the service says with 403, too, that it is asked too often.
var limits = []string{"rateLimitExceeded", "userRateLimitExceeded", "concurrentLimitExceeded"}

// isThrottled reports whether the service wants to be asked less often, which it says of writes to one object.
func isThrottled(err error) bool {
	status, reasons := answered(err)
	return status == http.StatusTooManyRequests ||
		status == http.StatusForbidden && slices.ContainsFunc(reasons, func(r string) bool { return slices.Contains(limits, r) })
}

// unsatisfiable reports whether an answer is 416: the object has no byte at the offset.
func unsatisfiable(err error) bool {
	status, _ := answered(err)
	return status == http.StatusRequestedRangeNotSatisfiable
}

// once is a failure of a call that cannot be repeated, since its body is gone.
type once struct{ error }

func (o once) Unwrap() error { return o.error }

// broken is a failure of the body of a call, of which the service knows nothing.
type broken struct{ error }

// judge says what to make of a failed attempt.
func judge(err error) remote.Verdict {
	var single once
	var body broken
	switch {
	case errors.As(err, &body):
		return remote.Verdict{}
	case errors.As(err, &single):
		v := judgeAnswer(single.error)
		v.Retry = false
		return v
	}
	return judgeAnswer(err)
}

func judgeAnswer(err error) remote.Verdict {
	status, _ := answered(err)
	switch {
	case errors.Is(err, storage.ErrUnavailable), errors.Is(err, errNoBucket), errors.Is(err, gcs.ErrBucketNotExist):
		return remote.Verdict{Class: storage.ErrUnavailable}
	case errors.Is(err, gcs.ErrObjectNotExist):
		return remote.Verdict{Class: fs.ErrNotExist}
	case isThrottled(err):
		return remote.Verdict{Class: storage.ErrUnavailable, Retry: true}
	case status == http.StatusUnauthorized: // a token that ended on the way
		return remote.Verdict{Class: storage.ErrUnavailable, Retry: true}
	case status == http.StatusPreconditionFailed:
		return remote.Verdict{Class: storage.ErrConflict}
	case status == http.StatusConflict:
		return remote.Verdict{Class: storage.ErrUnavailable, Retry: true}
	case status == http.StatusRequestTimeout:
		return remote.Verdict{Class: storage.ErrUnavailable, Retry: true, Uncertain: true}
	case status == http.StatusForbidden, status == http.StatusNotFound, 300 <= status && status < 400:
		return remote.Verdict{Class: storage.ErrUnavailable}
	case 400 <= status && status < 500, status == http.StatusNotImplemented:
		return remote.Verdict{}
	case status == 0:
		return judgeSilence(err)
	}
	return remote.Verdict{Class: storage.ErrUnavailable, Retry: true, Uncertain: true, Dead: true}
}

// judgeSilence is judge for an error without an answer of the service.
func judgeSilence(err error) remote.Verdict {
	var token *auth.Error
	switch {
	case errors.As(err, &token):
		return remote.Verdict{Class: storage.ErrUnavailable, Retry: token.Temporary(), Dead: token.Temporary()}
	case remote.NotSent(err):
		return remote.Verdict{Class: storage.ErrUnavailable, Retry: true, Dead: true}
	}
	return remote.Verdict{Class: storage.ErrUnavailable, Retry: true, Uncertain: true, Dead: true}
}
