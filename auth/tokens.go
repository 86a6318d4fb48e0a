package auth

import "errors"

// What can be wrong with a token. As with [ErrCredentials], texts of errors that match ErrToken may be shown to the
// client.
var (
	ErrToken = errors.New("the token is invalid")
	// ErrForeign is for credentials of a kind, or of an issuer, that an Authenticator knows nothing of: another one may.
	ErrForeign = errors.New("the credentials are not of a kind that is known here")
	// ErrUnavailable is for credentials that cannot be checked now, since whoever has the keys has not answered yet. Its
	// texts are for the log.
	ErrUnavailable = errors.New("credentials cannot be checked for now")
)
