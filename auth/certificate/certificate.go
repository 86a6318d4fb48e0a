// Package certificate lets in whom a certificate authority vouches for, by the certificates that clients show when they
// connect by TLS. The connection proves that a client has the key; this package says who it is.
package certificate

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"slices"
	"time"

	"berth/auth"
)

// Options say who the owner of a certificate is. A certificate has a name only where it has exactly one value of the kind.
type Options struct {
	// User is what the name of the user is taken from: "cn", the common name of the subject; "email" or "uri", the
	// alternative names of that kind.
	User string
	// UserPrefix is put before that name.
	UserPrefix string
	// Groups are what the names of groups are taken from: "o", the organisations of the subject; "ou", its organisational
	// units; "none".
	Groups string
	// GroupPrefix is put before each.
	GroupPrefix string
	// Authorities say whether a certificate is trusted still: connections stay open for longer than certificates hold.
	Authorities *Authorities

	now func() time.Time
}

// An Authenticator knows who sent a request by the certificate of its connection. It is safe for concurrent use.
type Authenticator struct {
	o    Options
	next auth.Authenticator // nil: nobody can log in otherwise
}

var _ auth.Authenticator = (*Authenticator)(nil)

// New returns an Authenticator by which the certificate alone counts; see [Authenticator.Before].
func New(o Options) (*Authenticator, error) {
	if !slices.Contains([]string{"cn", "email", "uri"}, o.User) {
		return nil, fmt.Errorf("the user cannot be taken from %q", o.User)
	}
	if !slices.Contains([]string{"o", "ou", "none"}, o.Groups) {
		return nil, fmt.Errorf("groups cannot be taken from %q", o.Groups)
	}
	if o.now == nil {
		o.now = time.Now
	}
	return &Authenticator{o: o}, nil
}

// Before returns an Authenticator that leaves requests with credentials of their own, and those without a certificate that
// names somebody, to another one; to none when that is nil.
func (a *Authenticator) Before(next auth.Authenticator) *Authenticator {
	return &Authenticator{a.o, next}
}

// Authenticate returns the owner of the certificate, the zero Subject when there is none, and otherwise what next does.
func (a *Authenticator) Authenticate(r *http.Request) (auth.Subject, error) {
	if a.next != nil && auth.HasCredentials(r) {
		return a.next.Authenticate(r)
	}
	if s, ok := a.owner(r); ok {
		return s, nil
	}
	if a.next == nil {
		return auth.Subject{}, nil
	}
	return a.next.Authenticate(r)
}

func (a *Authenticator) owner(r *http.Request) (s auth.Subject, ok bool) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || !slices.ContainsFunc(r.TLS.VerifiedChains, a.holds) {
		return s, false
	}
	leaf := r.TLS.VerifiedChains[0][0]
	var names []string
	switch a.o.User {
	case "cn":
		names = commonNames(leaf)
	case "email":
		names = leaf.EmailAddresses
	case "uri":
		for _, u := range leaf.URIs {
			names = append(names, u.String())
		}
	}
	if len(names) != 1 || !auth.Printable(names[0]) {
		return s, false
	}
	s.Name = a.o.UserPrefix + names[0]
	for _, group := range a.groups(leaf) {
		if auth.Printable(group) {
			s.Groups = append(s.Groups, a.o.GroupPrefix+group)
		}
	}
	return s, true
}

// holds reports whether a chain is good now, and not only when the connection was made.
func (a *Authenticator) holds(chain []*x509.Certificate) bool {
	now := a.o.now()
	ended := func(c *x509.Certificate) bool { return now.After(c.NotAfter) }
	return a.o.Authorities.Trusts(chain) && !slices.ContainsFunc(chain, ended)
}

// commonNames returns all of them: pkix.Name has the last one only.
func commonNames(leaf *x509.Certificate) (names []string) {
	for _, attribute := range leaf.Subject.Names {
		if attribute.Type.String() == "2.5.4.3" { // id-at-commonName (RFC 5280, appendix A.1)
			if name, ok := attribute.Value.(string); ok {
				names = append(names, name)
			}
		}
	}
	return names
}

func (a *Authenticator) groups(leaf *x509.Certificate) []string {
	switch a.o.Groups {
	case "o":
		return leaf.Subject.Organization
	case "ou":
		return leaf.Subject.OrganizationalUnit
	}
	return nil
}
