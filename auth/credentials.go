package auth

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// What can be wrong with credentials. The texts of errors that match these may be shown to the client: they have nothing
// of the server's and no secret.
var (
	ErrMalformed   = errors.New("the Authorization header is malformed")
	ErrCredentials = errors.New("the user name or the password is wrong")
)

// A ThrottledError turns an attempt to log in away unchecked: too many have failed before, or are being checked.
type ThrottledError struct{ RetryAfter time.Duration }

func (e *ThrottledError) Error() string { return "too many attempts to log in" }

// maxAuthorization bounds the Authorization header, in bytes. Identity tokens with many groups reach 10 KiB.
const maxAuthorization = 32 << 10

// BasicCredentials returns the user name and the password of a request with Basic authentication (RFC 7617), and false
// for one that carries none or another scheme. The user name ends at the first colon, and may be empty. Errors match
// [ErrMalformed].
func BasicCredentials(r *http.Request) (user, password string, ok bool, err error) {
	encoded, ok, err := authorization(r, "Basic")
	if !ok || err != nil {
		return "", "", false, err
	}
	decoded, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil { // some clients leave out the padding
		if decoded, err = base64.RawStdEncoding.DecodeString(encoded); err != nil {
			return "", "", false, fmt.Errorf("%w: Basic credentials that are not base64", ErrMalformed)
		}
	}
	user, password, ok = strings.Cut(string(decoded), ":")
	switch {
	case !ok:
		return "", "", false, fmt.Errorf("%w: Basic credentials without a colon after the user name", ErrMalformed)
	case strings.ContainsFunc(string(decoded), isControl):
		return "", "", false, fmt.Errorf("%w: Basic credentials with a control character", ErrMalformed)
	}
	return user, password, true, nil
}

// BearerToken returns the token of a request with Bearer authentication (RFC 6750, section 2.1), and false for one that
// carries none or another scheme. Errors match [ErrMalformed]; [ErrToken] too when it is the token that cannot be one.
func BearerToken(r *http.Request) (token string, ok bool, err error) {
	token, ok, err = authorization(r, "Bearer")
	if ok && strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return "", false, fmt.Errorf("%w: %w: it has a character that no token has", ErrMalformed, ErrToken)
	}
	return token, ok, err
}

// authorization returns what follows the scheme in the Authorization header, and false when there is none or another
// scheme. Schemes are compared without regard to case (RFC 9110, section 11.1).
func authorization(r *http.Request, scheme string) (string, bool, error) {
	values := r.Header["Authorization"]
	switch {
	case len(values) == 0:
		return "", false, nil
	case len(values) > 1:
		return "", false, fmt.Errorf("%w: it occurs more than once", ErrMalformed)
	case len(values[0]) > maxAuthorization:
		return "", false, fmt.Errorf("%w: it is longer than %d bytes", ErrMalformed, maxAuthorization)
	}
	given, rest, _ := strings.Cut(strings.TrimSpace(values[0]), " ")
	if !strings.EqualFold(given, scheme) {
		return "", false, nil
	}
	if rest = strings.TrimLeft(rest, " "); rest == "" {
		return "", false, fmt.Errorf("%w: nothing follows %q", ErrMalformed, scheme)
	}
	return rest, true, nil
}

func isControl(c rune) bool { return c < ' ' || c == 0x7f }

// Printable reports whether a name that comes from outside can stand in logs and in rules: not empty, not long, without
// characters that control something.
func Printable(name string) bool {
	return name != "" && len(name) <= 512 && !strings.ContainsFunc(name, func(r rune) bool {
		return r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r == '\ufffd'
	})
}
