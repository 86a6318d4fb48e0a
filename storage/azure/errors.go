package azure

import (
	"errors"
	"io/fs"
	"net/http"
	"slices"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"

	"berth/storage"
	"berth/storage/remote"
)

// code returns the error code and the status of an answer, "" and 0 where there was none.
func code(err error) (bloberror.Code, int) {
	var response *azcore.ResponseError
	if errors.As(err, &response) {
		return bloberror.Code(response.ErrorCode), response.StatusCode
	}
	return "", 0
}

// Codes that mean one thing, whatever the status.
var (
	conflictCodes  = []bloberror.Code{bloberror.ConditionNotMet, bloberror.TargetConditionNotMet, bloberror.BlobAlreadyExists}
	transientCodes = []bloberror.Code{bloberror.MD5Mismatch, bloberror.CRC64Mismatch, bloberror.InvalidAuthenticationInfo}
	lostCodes      = []bloberror.Code{bloberror.InvalidBlockList, bloberror.InvalidBlobOrBlock}
	// blockedCodes stay what they are, however often one asks.
	blockedCodes = []bloberror.Code{bloberror.BlobImmutableDueToPolicy, bloberror.BlobArchived, bloberror.BlobBeingRehydrated,
		bloberror.AccountIsDisabled, bloberror.ContainerDisabled, bloberror.ContainerNotFound, bloberror.ContainerBeingDeleted,
		bloberror.InvalidBlobType}
)

// judge says what to make of a failed attempt.
func judge(err error) remote.Verdict {
	verdict := judgeCode(err)
	verdict.Cause = brief(err)
	return verdict
}

func judgeCode(err error) remote.Verdict {
	var login *azidentity.AuthenticationFailedError
	switch name, status := code(err); {
	case errors.Is(err, storage.ErrUnavailable): // by the breaker
		return remote.Verdict{Class: storage.ErrUnavailable}
	case errors.As(err, &login): // nothing was sent to the service
		return remote.Verdict{Class: storage.ErrUnavailable, Retry: true}
	case name == bloberror.ServerBusy, status == http.StatusTooManyRequests:
		return remote.Verdict{Class: storage.ErrUnavailable, Retry: true}
	case slices.Contains(transientCodes, name):
		return remote.Verdict{Class: storage.ErrUnavailable, Retry: true}
	case slices.Contains(conflictCodes, name), name == "" && status == http.StatusPreconditionFailed:
		return remote.Verdict{Class: storage.ErrConflict}
	case name == bloberror.BlobNotFound:
		return remote.Verdict{Class: fs.ErrNotExist}
	case slices.Contains(lostCodes, name):
		return remote.Verdict{Class: errNoBlocks}
	case slices.Contains(blockedCodes, name), status == http.StatusPreconditionFailed: // a lease
		return remote.Verdict{Class: storage.ErrUnavailable}
	case status == http.StatusInsufficientStorage:
		return remote.Verdict{Class: storage.ErrNoSpace}
	case status == http.StatusConflict:
		return remote.Verdict{Class: storage.ErrUnavailable, Retry: true}
	default:
		return judgeStatus(err, status)
	}
}

// judgeStatus is judgeCode for what no code tells.
func judgeStatus(err error, status int) remote.Verdict {
	name, _ := code(err)
	switch {
	case status == http.StatusForbidden, status == http.StatusUnauthorized, 300 <= status && status < 400:
		return remote.Verdict{Class: storage.ErrUnavailable}
	case 400 <= status && status < 500 && name == "": // by somebody between
		return remote.Verdict{Class: storage.ErrUnavailable, Retry: true, Uncertain: true}
	case 400 <= status && status < 500, status == http.StatusNotImplemented:
		return remote.Verdict{}
	case status == 0 && remote.NotSent(err):
		return remote.Verdict{Class: storage.ErrUnavailable, Retry: true, Dead: true}
	}
	return remote.Verdict{Class: storage.ErrUnavailable, Retry: true, Uncertain: true, Dead: true}
}
