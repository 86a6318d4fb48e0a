// Package pass gives out tokens of our own, for clients that fetch a token before they ask for anything, as the docker
// engine does (https://distribution.github.io/distribution/spec/auth/token/). Who has a password gets a pass, and so does
// who has no credentials; an ID token is given back as it is, since it is a Bearer token already.
//
// A pass says who somebody is and nothing of what they may do: that is decided when it is used. It is under a MAC by a key
// that all replicas have. That of a user has a stamp of the user's line in the file of passwords, so that it ends with the
// password: within a second of the change of the file, on every replica.
package pass

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"berth/auth"
	"berth/auth/recent"
)

// remembered bounds the passes that are remembered, in each of two generations.
const remembered = 4096

// Users are users with passwords.
type Users interface {
	auth.Authenticator
	// Stamp returns 16 bytes that stand for a user and the present password of that user, under a key; false for an unknown user.
	Stamp(key []byte, user string) ([]byte, bool)
	// Version returns a number that is another one whenever there may be other stamps.
	Version() uint64
}

// IDTokens are users with tokens of somebody else.
type IDTokens interface {
	// Token returns the token in the credentials of a request, once it was verified, who sent it and how long it still holds.
	// Errors are those of an [auth.Authenticator].
	Token(r *http.Request) (text string, s auth.Subject, left time.Duration, err error)
}

// Options of an Office.
type Options struct {
	Service  string        // the name of the registry; one of another name takes no pass of this one
	Lifetime time.Duration // of passes; 0: 5 min
	Users    Users         // nil: none
	IDTokens IDTokens      // nil: none

	Now func() time.Time // the clock; nil: time.Now
}

// An Office gives out passes and authenticates by them. It is safe for concurrent use.
type Office struct {
	o            Options
	next         auth.Authenticator
	key, stamper []byte
	seen         *recent.Credentials[seen]
}

// A seen pass was found to be one of a user.
type seen struct {
	claim
	version uint64 // of the users
}

var _ auth.Authenticator = (*Office)(nil)

// New makes an office. Credentials that are no passes are for next. The secret, of 16 bytes at least, must be the same on
// all replicas and of use for nothing else.
func New(secret []byte, next auth.Authenticator, o Options) (*Office, error) {
	if len(secret) < 16 {
		return nil, errors.New("the secret is shorter than 16 bytes")
	}
	if o.Lifetime <= 0 {
		o.Lifetime = 5 * time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	f := &Office{o: o, next: next, seen: recent.NewCredentials[seen](remembered)}
	var err error
	if f.key, err = hkdf.Key(sha256.New, secret, nil, "pass for "+o.Service, sha256.Size); err != nil {
		return nil, err
	}
	f.stamper, err = hkdf.Key(sha256.New, secret, nil, "stamp for "+o.Service, sha256.Size)
	return f, err
}

// Service returns the name of the registry.
func (f *Office) Service() string { return f.o.Service }

// A Pass is what a client gets that logs in.
type Pass struct {
	Text    string       // the Bearer token
	Subject auth.Subject // whose it is
	Issued  time.Time
	Holds   time.Duration // from Issued on
}

// Issue returns a pass for who sent a request. Errors are those of an [auth.Authenticator]; a pass is not a credential
// here, so that none can be renewed.
func (f *Office) Issue(r *http.Request) (Pass, error) {
	now := f.o.Now()
	if !auth.HasCredentials(r) {
		return f.pass("", nil, now), nil
	}
	err := fmt.Errorf("%w: log in with a user name and a password", auth.ErrForeign)
	if f.o.IDTokens != nil {
		text, s, left, tokenErr := f.o.IDTokens.Token(r)
		if !errors.Is(tokenErr, auth.ErrForeign) {
			return Pass{text, s, now, min(left, f.o.Lifetime)}, tokenErr
		}
		err = tokenErr
	}
	if f.o.Users == nil {
		return Pass{}, err
	}
	s, userErr := f.o.Users.Authenticate(r)
	switch {
	case userErr != nil:
		return Pass{}, userErr
	case s.Name == "":
		return Pass{}, err
	}
	stamp, ok := f.o.Users.Stamp(f.stamper, s.Name)
	if !ok { // removed a moment ago
		return Pass{}, auth.ErrCredentials
	}
	return f.pass(s.Name, stamp, now), nil
}

func (f *Office) pass(name string, stamp []byte, now time.Time) Pass {
	c := claim{expires: now.Add(f.o.Lifetime), name: name}
	copy(c.stamp[:], stamp)
	return Pass{f.encode(c), auth.Subject{Name: name}, now, f.o.Lifetime}
}

// Authenticate returns the subject of a request's pass; what has none is for the next authenticator. Errors match
// [auth.ErrToken].
func (f *Office) Authenticate(r *http.Request) (auth.Subject, error) {
	text, ok, err := carried(r)
	if !ok || err != nil {
		return f.next.Authenticate(r)
	}
	c, err := f.claimOf(r, text)
	if err != nil {
		return auth.Subject{}, err
	}
	if f.o.Now().After(c.expires.Add(leeway)) {
		return auth.Subject{}, fmt.Errorf("%w: it has expired", auth.ErrToken)
	}
	return auth.Subject{Name: c.name}, nil
}

// claimOf returns what the pass of a request says, expired or not. It is verified again when the users may be others.
func (f *Office) claimOf(r *http.Request, text string) (claim, error) {
	var version uint64
	if f.o.Users != nil {
		version = f.o.Users.Version()
	}
	proof, ok := f.seen.Prove(r)
	if p, known := f.seen.Get(proof); ok && known && p.version == version {
		return p.claim, nil
	}
	c, err := f.decode(text)
	if err == nil {
		err = f.verify(c)
	}
	if err == nil && ok {
		f.seen.Put(proof, seen{c, version})
	}
	return c, err
}

// carried returns what may be the pass of a request.
func carried(r *http.Request) (text string, ok bool, err error) {
	const usual = "Bearer " + prefix
	if header := r.Header["Authorization"]; len(header) == 1 && strings.HasPrefix(header[0], usual) {
		return header[0][len("Bearer "):], true, nil
	}
	text, ok, err = auth.BearerToken(r)
	return text, ok && strings.HasPrefix(text, prefix), err
}

// verify looks whether the user of a pass still has the password by which it was given.
func (f *Office) verify(c claim) error {
	if c.name == "" {
		return nil
	}
	if f.o.Users != nil {
		if stamp, ok := f.o.Users.Stamp(f.stamper, c.name); ok && hmac.Equal(stamp, c.stamp[:]) {
			return nil
		}
	}
	return fmt.Errorf("%w: its user was removed or has another password", auth.ErrToken)
}

// leeway is by how much the clocks of replicas and of clients, which reckon by Pass.Issued, may differ.
const leeway = time.Minute

// A claim is what a pass says.
type claim struct {
	expires time.Time
	stamp   [stampSize]byte
	name    string // "" for anonymous
}

// The form of a pass: the prefix, then in base64url the seconds of expires, the stamp, the name and the MAC of these.
const (
	prefix    = "berth1."
	stampSize = 16
	fixedSize = 8 + stampSize + sha256.Size
	maxName   = 255
)

var errForged = fmt.Errorf("%w: it was not made here", auth.ErrToken)

func (f *Office) encode(c claim) string {
	b := make([]byte, 0, fixedSize+len(c.name))
	b = binary.BigEndian.AppendUint64(b, uint64(c.expires.Unix()))
	b = append(append(b, c.stamp[:]...), c.name...)
	return prefix + base64.RawURLEncoding.EncodeToString(append(b, f.mac(b)...))
}

// decode returns what a pass of this office says, expired or not. Nothing is read from one whose MAC is wrong.
func (f *Office) decode(text string) (claim, error) {
	encoded, ok := strings.CutPrefix(text, prefix)
	if !ok || len(encoded) > base64.RawURLEncoding.EncodedLen(fixedSize+maxName) {
		return claim{}, errForged
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || len(b) < fixedSize || strings.ContainsAny(encoded, "\r\n") { // which the decoder skips
		return claim{}, errForged
	}
	said, mac := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if !hmac.Equal(mac, f.mac(said)) {
		return claim{}, errForged
	}
	return claim{
		expires: time.Unix(int64(binary.BigEndian.Uint64(said)), 0),
		stamp:   [stampSize]byte(said[8:]),
		name:    string(said[8+stampSize:]),
	}, nil
}

func (f *Office) mac(said []byte) []byte {
	h := hmac.New(sha256.New, f.key)
	h.Write(said)
	return h.Sum(nil)
}
