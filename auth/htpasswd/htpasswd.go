// Package htpasswd knows users by a file of names and password hashes, as Apache's htpasswd writes it.
//
// Hashes are slow by design, requests must not be: a verified password is remembered in memory for five minutes under a
// MAC whose key is of the process alone, so that a request costs a microsecond. The MAC covers the user's line of the
// file, so that a changed line ends what was remembered; a change takes effect within [reload.Interval].
//
// Unknown users cost what known ones do. Wrong passwords are slowed by user and address, never by user alone: whoever
// guesses cannot lock a user out. Few hashes are computed at a time, so that a flood of guesses leaves the processors to
// those who are logged in.
package htpasswd

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"berth/auth"
	"berth/auth/reload"
)

// Options of a File. The zero value is valid.
type Options struct {
	// OnError and OnReload are told of changes of the file, as [reload.Options] has it.
	OnError  func(error)
	OnReload func()
	// Address returns where a request comes from; by default the peer of the connection, which behind a proxy is the
	// proxy.
	Address func(*http.Request) string
	// Hashing is how many hashes are computed at a time; by default half of the processors, at least one.
	Hashing int

	now  func() time.Time
	wait func(time.Duration)
}

// A File authenticates requests with Basic credentials. It is safe for concurrent use.
type File struct {
	file     *reload.File[*table]
	o        Options
	prover   *prover
	memory   memory
	throttle throttle
	flights  singleflight.Group
	hashing  chan struct{} // holds an element for each hash being computed
	hashed   atomic.Uint64
}

var _ auth.Authenticator = (*File)(nil)

// Open reads a file of users. Errors name the file and the line.
func Open(path string, o *Options) (*File, error) {
	f := &File{prover: newProver()}
	if o != nil {
		f.o = *o
	}
	if f.o.Address == nil {
		f.o.Address = func(r *http.Request) string { return peer(r.RemoteAddr) }
	}
	if f.o.Hashing <= 0 {
		f.o.Hashing = max(1, runtime.GOMAXPROCS(0)/2)
	}
	if f.o.now == nil {
		f.o.now = time.Now
	}
	if f.o.wait == nil {
		f.o.wait = time.Sleep
	}
	f.hashing = make(chan struct{}, f.o.Hashing)
	f.memory.proofs.bound, f.throttle.trials.bound = remembered, maxOrigins
	var err error
	f.file, err = reload.Open(path, maxFile, parseTable, &reload.Options{OnError: f.o.OnError, OnReload: f.o.OnReload})
	if err != nil {
		return nil, fmt.Errorf("read the users: %w", err)
	}
	return f, nil
}

// Refresh looks at the file at once: for a reload that somebody asked for. Its error is why the file does not take effect.
func (f *File) Refresh() error { return f.file.Refresh() }

// Hashed returns how many hashes have been computed.
func (f *File) Hashed() uint64 { return f.hashed.Load() }

// Authenticate returns the user of a request's Basic credentials, the zero Subject for a request without them or with
// another scheme, and the errors of [File.Verify] and [auth.BasicCredentials].
func (f *File) Authenticate(r *http.Request) (auth.Subject, error) {
	user, password, ok, err := auth.BasicCredentials(r)
	if !ok || err != nil {
		return auth.Subject{}, err
	}
	return f.Verify(r.Context(), user, password, f.o.Address(r))
}

// Verify returns the user of a name and a password that come from an address. Errors match [auth.ErrCredentials], or are
// an *[auth.ThrottledError], or the context's. A remembered password is never made to wait.
func (f *File) Verify(ctx context.Context, user, password, address string) (auth.Subject, error) {
	if len(user) > maxUser || len(password) > maxPassword {
		return auth.Subject{}, wrong(password)
	}
	e, known := (*f.file.Get()).find(user, f.prover)
	p := f.prover.prove(user, e, password)
	if known && f.memory.has(p, f.o.now()) {
		return auth.Subject{Name: user}, nil
	}
	c := check{e, known, password, p, origin{user, address}}
	// Several requests with the same new credentials are usual: a client pushes its layers at once. The check goes on
	// when its first asker leaves, since others may wait for it; how long it can take is bounded.
	flight := f.flights.DoChan(string(p[:])+address, func() (any, error) { return f.check(c) })
	select {
	case <-ctx.Done():
		return auth.Subject{}, ctx.Err()
	case result := <-flight:
		if result.Err != nil {
			return auth.Subject{}, result.Err
		}
		if right, _ := result.Val.(bool); !right {
			return auth.Subject{}, wrong(password)
		}
	}
	return auth.Subject{Name: user}, nil
}

// Stamp returns 16 bytes that stand for a user's line in the file as it is now, under a key; false for an unknown user. They
// are others once the password was changed.
func (f *File) Stamp(key []byte, user string) ([]byte, bool) {
	e := (*f.file.Get()).byName[user]
	if e == nil {
		return nil, false
	}
	h := hmac.New(sha256.New, key)
	fmt.Fprintf(h, "%d %s%s", len(user), user, e.text)
	return h.Sum(nil)[:16], true
}

// A check is what it takes to check a password that is not remembered.
type check struct {
	entry    *entry
	known    bool
	password string
	proof    proof
	origin   origin
}

// check computes a hash, when it is the turn of the check's origin, and one of the few processors for it is free.
func (f *File) check(c check) (right bool, err error) {
	if c.known && f.memory.has(c.proof, f.o.now()) { // by another check, while this one was on its way
		return true, nil
	}
	wait, err := f.throttle.begin(c.origin, f.o.now())
	if err != nil {
		return false, err
	}
	defer func() { f.throttle.done(c.origin, right) }()
	if wait > 0 {
		f.o.wait(wait)
	}
	if right = f.compute(c); right {
		f.memory.add(c.proof, f.o.now())
	}
	return right, nil
}

func (f *File) compute(c check) bool {
	f.hashing <- struct{}{}
	defer func() { <-f.hashing }()
	f.hashed.Add(1)
	return c.entry.hash.verify(c.password) && c.known
}

// wrong returns the error for wrong credentials, with a hint where the reason may be one that nobody would find.
func wrong(password string) error {
	if strings.Contains(password, ":") {
		return fmt.Errorf("%w; a user name cannot have a colon, since HTTP Basic authentication takes what follows the first "+
			"colon for the password", auth.ErrCredentials)
	}
	return auth.ErrCredentials
}

// peer returns the address of a connection's other end: of IPv6 the network of 64 bits, of which one host has all
// addresses.
func peer(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if ip = ip.Unmap().WithZone(""); ip.Is4() {
		return ip.String()
	}
	network, err := ip.Prefix(64)
	if err != nil {
		return host
	}
	return network.String()
}
