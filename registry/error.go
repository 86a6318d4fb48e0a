package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"berth/storage"
)

// A Code says what kind of error the domain met. How it is told to a client (the OCI code, the HTTP status) is known to
// the API alone.
type Code int

// The codes of errors.
const (
	Unknown Code = iota // an error of ours: a bug, or a damaged store
	NameInvalid
	NameUnknown
	DigestInvalid // a malformed digest, or content that does not have it
	TagInvalid
	BlobUnknown
	UploadUnknown
	UploadInvalid
	RangeInvalid // bytes that do not continue an upload where it stands
	SizeInvalid
	BlobTooLarge
	ManifestUnknown
	ManifestInvalid
	ManifestTooLarge
	ManifestBlobUnknown // a manifest that names what its repository lacks
	PreconditionFailed
	Denied // a change of a tag that is to stay as it is
	Unsupported
	Unavailable // the store cannot do it now
	NoSpace
)

// An Error is what every method of this package returns, except for the errors of a context, which pass through.
type Error struct {
	Code    Code
	Message string // for the client: what is wrong, and what would be right
	Detail  any    // for the client, as JSON; may be nil
	Err     error  // for the operator; may be nil
}

func (e *Error) Error() string {
	switch {
	case e.Err == nil:
		return e.Message
	case e.Message == "":
		return e.Err.Error()
	default:
		return e.Message + ": " + e.Err.Error()
	}
}

func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the code of err, [Unknown] when it has none.
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return Unknown
}

func newError(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// storeError turns an error of the store into one of the domain, with the operation in front.
func storeError(operation string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	wrapped := fmt.Errorf("%s: %w", operation, err)
	switch {
	case errors.Is(err, storage.ErrNoSpace):
		return &Error{Code: NoSpace, Message: "the registry's storage is full", Err: wrapped}
	case errors.Is(err, storage.ErrReadOnly):
		return &Error{Code: Unavailable, Message: "the registry's storage is read-only for now", Err: wrapped}
	case errors.Is(err, storage.ErrUnavailable), errors.Is(err, storage.ErrConflict):
		return &Error{Code: Unavailable, Message: "the registry's storage cannot do this now, try again", Err: wrapped}
	default:
		return &Error{Code: Unknown, Err: wrapped}
	}
}

func isAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// isConflict reports whether a condition did not hold, and nothing else went wrong: that others could not be told of a deletion does.
func isConflict(err error) bool {
	return errors.Is(err, storage.ErrConflict) && !errors.Is(err, storage.ErrUnavailable)
}
