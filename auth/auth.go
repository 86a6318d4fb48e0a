// Package auth decides who may do what. An [Authenticator] tells who asks; an [Authorizer] tells whether they may.
//
// Every action on the registry is authorised by one call of one Authorizer, made in one place of the HTTP layer with
// the accesses that the route states. Whatever is not allowed is denied.
package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// An Action is something one may do to a repository, or to the registry as a whole.
type Action string

// The actions.
const (
	Pull    Action = "pull"
	Push    Action = "push"
	Delete  Action = "delete"
	List    Action = "list"
	Admin   Action = "admin"
	Metrics Action = "metrics" // of the registry as a whole

	// PushNew is Push by whom no tag may be moved. It is granted and never asked for: who may PushNew is granted Push, and
	// whether tags may be moved is asked apart.
	PushNew Action = "push-new"
	// Every is all actions, in a grant only: the "*" of a token's scope.
	Every Action = "*"
)

// An Access is an action on a repository; on the registry as a whole when Repository is empty.
type Access struct {
	Action     Action
	Repository string
}

// A Subject is who asks. The zero Subject is anonymous.
type Subject struct {
	Name   string
	Groups []string
	Grants []Access // what a scoped token allows; nil when the credential was not scoped
}

// An Authenticator finds out who sent a request. Implementations are safe for concurrent use.
type Authenticator interface {
	// Authenticate returns the zero Subject for a request without credentials, and an error for one with wrong ones.
	Authenticate(r *http.Request) (Subject, error)
}

// An Authorizer decides whether a subject may do all that it wants. Implementations are safe for concurrent use.
type Authorizer interface {
	// Authorize returns nil when s may do all of want; else an error that matches ErrDenied or ErrReadOnly.
	Authorize(ctx context.Context, s Subject, want ...Access) error
}

// Why an Authorizer says no.
var (
	ErrDenied   = errors.New("access denied")
	ErrReadOnly = errors.New("the registry is read-only")
)

// A DeniedError says what a subject may not do. It matches [ErrDenied].
type DeniedError struct {
	Subject Subject
	Want    []Access // all that was asked for
	Missing Access   // the first of Want that the subject lacks
	// Scoped says that nothing but the scope of the subject's token stands in the way, so that a wider token would help.
	Scoped bool
}

func (e *DeniedError) Error() string {
	who, what := "anonymous", "the registry"
	if e.Subject.Name != "" {
		who = strconv.Quote(e.Subject.Name)
	}
	if e.Missing.Repository != "" {
		what = "the repository " + strconv.Quote(e.Missing.Repository)
	}
	return fmt.Sprintf("%s: %s may not %s on %s", ErrDenied, who, e.Missing.Action, what)
}

// Unwrap returns [ErrDenied].
func (e *DeniedError) Unwrap() error { return ErrDenied }

// Anonymous authenticates everybody as nobody in particular: for a server without authentication.
type Anonymous struct{}

// Authenticate returns the zero Subject.
func (Anonymous) Authenticate(*http.Request) (Subject, error) { return Subject{}, nil }

// Local authenticates everybody as nobody in particular, for a server that serves loopback addresses because nothing was said of
// who may use it. What the page of another site has a browser change there is denied: that its name may lead to a loopback
// address (DNS rebinding) does not make it local.
type Local struct{}

var errOrigin = fmt.Errorf("%w: the page of another site asks for it; configure auth, or write auth: none", ErrDenied)

// Authenticate returns the zero Subject, or an error that matches [ErrDenied].
func (Local) Authenticate(r *http.Request) (Subject, error) {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return Subject{}, nil
	}
	for _, origin := range r.Header["Origin"] { // browsers say so with all else, and nobody but them
		if !isLocal(origin) {
			return Subject{}, errOrigin
		}
	}
	return Subject{}, nil
}

func isLocal(origin string) bool {
	u, err := url.Parse(origin)
	if err != nil {
		return false
	}
	host := u.Hostname()
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback() || host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// AllowAll allows everything, for a server without authentication.
type AllowAll struct{}

// Authorize returns nil.
func (AllowAll) Authorize(context.Context, Subject, ...Access) error { return nil }

// ReadOnly denies every change while On reports true, and otherwise asks Next.
type ReadOnly struct {
	On   func() bool
	Next Authorizer
}

// Authorize returns [ErrReadOnly] when want has a push or a delete and the registry is read-only.
func (a ReadOnly) Authorize(ctx context.Context, s Subject, want ...Access) error {
	if err := a.Next.Authorize(ctx, s, want...); err != nil {
		return err
	}
	for _, access := range want {
		if (access.Action == Push || access.Action == Delete) && a.On() {
			return ErrReadOnly
		}
	}
	return nil
}
