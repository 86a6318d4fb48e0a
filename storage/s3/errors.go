package s3

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"berth/storage"
	"berth/storage/remote"
)

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
func judge(err error) remote.Verdict {
	name, status := code(err)
	switch {
	case errors.Is(err, storage.ErrUnavailable): // by the breaker
		return remote.Verdict{Class: storage.ErrUnavailable}
	case errors.Is(err, errPartly): // by a service that answers
		return remote.Verdict{Class: storage.ErrUnavailable, Retry: true, Uncertain: true}
	case slices.Contains(throttlingCodes, name), status == http.StatusTooManyRequests:
		return remote.Verdict{Class: storage.ErrUnavailable, Retry: true}
	case slices.Contains(fullCodes, name), status == http.StatusInsufficientStorage:
		return remote.Verdict{Class: storage.ErrNoSpace}
	case slices.Contains(transientCodes, name):
		return remote.Verdict{Class: storage.ErrUnavailable, Retry: true}
	case status == http.StatusPreconditionFailed:
		return remote.Verdict{Class: storage.ErrConflict}
	case name == "NoSuchUpload":
		return remote.Verdict{Class: errNoUpload}
	case slices.Contains(absentCodes, name):
		return remote.Verdict{Class: fs.ErrNotExist}
	case status == http.StatusConflict:
		return remote.Verdict{Class: storage.ErrUnavailable, Retry: true}
	case status == http.StatusForbidden, status == http.StatusUnauthorized, name == "NoSuchBucket", 300 <= status && status < 400:
		return remote.Verdict{Class: storage.ErrUnavailable}
	case 400 <= status && status < 500 && name == "": // an answer that was cut
		return remote.Verdict{Class: storage.ErrUnavailable, Retry: true, Uncertain: true}
	case 400 <= status && status < 500, status == http.StatusNotImplemented:
		return remote.Verdict{}
	case 500 <= status:
		return remote.Verdict{Class: storage.ErrUnavailable, Retry: true, Uncertain: true, Dead: true}
	case remote.NotSent(err):
		return remote.Verdict{Class: storage.ErrUnavailable, Retry: true, Dead: true}
	}
	return remote.Verdict{Class: storage.ErrUnavailable, Retry: true, Uncertain: true, Dead: true}
}
