package auth

import (
	"errors"
	"fmt"
	"net/http"
)

// Methods are ways to authenticate: the first that knows the credentials of a request decides. One that takes whatever
// comes, such as a file of passwords, stands last.
type Methods []Authenticator

// nobody is what some clients send that have neither a user name nor a password (podman, skopeo): ":".
const nobody = "Basic Og=="

// HasCredentials reports whether a request has credentials, right or wrong.
func HasCredentials(r *http.Request) bool {
	given := r.Header["Authorization"]
	return len(given) > 1 || len(given) == 1 && given[0] != nobody
}

// Authenticate returns the zero Subject for a request without credentials, the error of the way that knows the credentials,
// and one that matches [ErrForeign] when none does, and [ErrToken] too when they are a Bearer token.
func (m Methods) Authenticate(r *http.Request) (Subject, error) {
	if !HasCredentials(r) {
		return Subject{}, nil
	}
	for _, method := range m {
		s, err := method.Authenticate(r)
		if errors.Is(err, ErrForeign) {
			continue
		}
		if err != nil || s.Name != "" || s.Grants != nil {
			return s, err
		}
	}
	if _, isBearer, _ := authorization(r, "Bearer"); isBearer {
		return Subject{}, fmt.Errorf("%w: %w", ErrToken, ErrForeign)
	}
	return Subject{}, ErrForeign
}
