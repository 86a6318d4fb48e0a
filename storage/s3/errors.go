package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"slices"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"berth/storage"
)

// A verdict is what a failed attempt means.
type verdict struct {
	class     error // nil: none of those in package storage
	retry     bool
	uncertain bool // it may have taken effect
	dead      bool // nothing that works answered
}

// wrap makes the error of a call. The cause is told, not wrapped: its timeouts are not those of the caller.
func (v verdict) wrap(c call, cause error) error {
	if v.class == nil {
		return fmt.Errorf("%s %s: %v", c.operation, c.key, cause)
	}
	if errors.Is(cause, v.class) {
		return fmt.Errorf("%s %s: %w", c.operation, c.key, cause)
	}
	return fmt.Errorf("%s %s: %w: %v", c.operation, c.key, v.class, cause)
}

// code returns the error code and the status of an answer, "" and 0 where there was none.
func code(err error) (string, int) {
	var api smithy.APIError
	var response *smithyhttp.ResponseError
	name, status := "", 0
	if errors.As(err, &api) {
		name = api.ErrorCode()
	}
	if errors.As(err, &response) && response.Response != nil {
		status = response.HTTPStatusCode()
	}
	return name, status
}

// Codes by which services say one thing, whatever status they choose for it.
var (
	throttlingCodes = []string{"SlowDown", "SlowDownRead", "SlowDownWrite", "Throttling", "ThrottlingException", "RequestLimitExceeded",
		"TooManyRequests", "BandwidthLimitExceeded", "RequestThrottled", "ServerBusy"}
	fullCodes      = []string{"QuotaExceeded", "XMinioStorageFull", "InsufficientCapacity", "XMinioAdminBucketQuotaExceeded"}
	transientCodes = []string{"RequestTimeout", "IncompleteBody", "BadDigest", "XAmzContentChecksumMismatch", "ExpiredToken", "TokenRefreshRequired",
		"RequestTimeTooSkewed", "InvalidToken", "RequestExpired"}
	absentCodes = []string{"NoSuchKey", "NotFound"}
)

// errNoUpload says that the service does not know an upload in parts.
var errNoUpload = fmt.Errorf("%w: the service does not have these parts", storage.ErrUnavailable)

// judge says what to make of a failed attempt.
func judge(err error) verdict {
	name, status := code(err)
	switch {
	case errors.Is(err, storage.ErrUnavailable): // by the breaker
		return verdict{class: storage.ErrUnavailable}
	case slices.Contains(throttlingCodes, name), status == http.StatusTooManyRequests:
		return verdict{class: storage.ErrUnavailable, retry: true}
	case slices.Contains(fullCodes, name), status == http.StatusInsufficientStorage:
		return verdict{class: storage.ErrNoSpace}
	case slices.Contains(transientCodes, name):
		return verdict{class: storage.ErrUnavailable, retry: true}
	case status == http.StatusPreconditionFailed:
		return verdict{class: storage.ErrConflict}
	case name == "NoSuchUpload":
		return verdict{class: errNoUpload}
	case slices.Contains(absentCodes, name):
		return verdict{class: fs.ErrNotExist}
	case status == http.StatusConflict:
		return verdict{class: storage.ErrUnavailable, retry: true}
	case status == http.StatusForbidden, status == http.StatusUnauthorized, name == "NoSuchBucket", 300 <= status && status < 400:
		return verdict{class: storage.ErrUnavailable}
	case 400 <= status && status < 500 && name == "": // an answer that was cut
		return verdict{class: storage.ErrUnavailable, retry: true, uncertain: true}
	case 400 <= status && status < 500, status == http.StatusNotImplemented:
		return verdict{}
	case 500 <= status:
		return verdict{class: storage.ErrUnavailable, retry: true, uncertain: true, dead: true}
	case refused(err):
		return verdict{class: storage.ErrUnavailable, retry: true, dead: true}
	}
	return verdict{class: storage.ErrUnavailable, retry: true, uncertain: true, dead: true}
}

// refused reports whether a request was not even sent.
func refused(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial" && !errors.Is(err, context.DeadlineExceeded)
}
