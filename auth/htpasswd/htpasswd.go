// Package htpasswd knows users by a file of names and password hashes, as Apache's htpasswd writes it.
//
// Hashes are slow by design, requests must not be: a header with a verified password is remembered in memory for five
// minutes after it was last used, as a hash under a key that is of the process alone, so that a request costs a fraction of a
// microsecond. What is remembered holds for as long as the user's line of the file is the same; a change takes effect within
// [reload.Interval].
//
// Unknown users cost what known ones do. Wrong passwords are slowed by user and address, never by user alone: whoever
// guesses cannot lock a user out. Few hashes are computed at a time, so that a flood of guesses leaves the processors to
// those who are logged in, and those in turns of the addresses, so that the flood of one holds up no other.
package htpasswd

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"hash/maphash"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"berth/auth"
	"berth/auth/recent"
	"berth/auth/reload"
	"berth/auth/throttle"
)

// Bounds of what is remembered.
const (
	rememberFor = 5 * time.Minute
	remembered  = 4096 // headers, in each of two generations
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
	logins   *recent.Credentials[login]
	seed     maphash.Seed // chooses whose hash an unknown user is checked by
	throttle *throttle.Throttle
	flights  singleflight.Group
	hashing  *throttle.Turns
	hashed   atomic.Uint64
}

var _ auth.Authenticator = (*File)(nil)

// Open reads a file of users. Errors name the file and the line.
func Open(path string, o *Options) (*File, error) {
	f := &File{logins: recent.NewCredentials[login](remembered), seed: maphash.MakeSeed(), throttle: throttle.New()}
	if o != nil {
		f.o = *o
	}
	if f.o.Address == nil {
		f.o.Address = func(r *http.Request) string { return throttle.Peer(r.RemoteAddr) }
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
	f.hashing = throttle.NewTurns(f.o.Hashing)
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

// A login is a password that was right.
type login struct {
	user  string
	line  string // the hash in the file that it was checked by
	until time.Time
}

// Authenticate returns the user of a request's Basic credentials, and the zero Subject for a request without them or with
// another scheme. Errors match [auth.ErrMalformed] or [auth.ErrCredentials], or are an *[auth.ThrottledError], or the
// context's. A remembered password is never made to wait.
func (f *File) Authenticate(r *http.Request) (auth.Subject, error) {
	proof, proven := f.logins.Prove(r)
	if proven {
		if user, known := f.remembers(proof); known {
			return auth.Subject{Name: user}, nil
		}
	}
	user, password, ok, err := auth.BasicCredentials(r)
	if !ok || err != nil {
		return auth.Subject{}, err
	}
	if !proven || len(user) > maxUser || len(password) > maxPassword {
		return auth.Subject{}, wrong(password)
	}
	c := check{user, password, proof, throttle.Origin{User: user, Address: f.o.Address(r)}}
	// Several requests with the same new credentials are usual: a client pushes its layers at once. The check goes on
	// when its first asker leaves, since others may wait for it; how long it can take is bounded. Who asks once the file is
	// another one does not wait for an answer by what it was.
	key := fmt.Sprintf("%x %d %s", proof, f.Version(), c.origin.Address)
	flight := f.flights.DoChan(key, func() (any, error) { return f.check(c) })
	select {
	case <-r.Context().Done():
		return auth.Subject{}, r.Context().Err()
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

// remembers returns the user of a header that was right a short time ago, by a line that is still in the file.
func (f *File) remembers(p recent.Proof) (user string, ok bool) {
	l, ok := f.logins.Get(p)
	now := f.o.now()
	left := l.until.Sub(now)
	if !ok || left <= 0 {
		return "", false
	}
	e := (*f.file.Get()).byName[l.user]
	if e == nil || e.text != l.line {
		return "", false
	}
	if left < rememberFor/2 { // who works all the time does not wait in line with those who guess
		l.until = now.Add(rememberFor)
		f.logins.Put(p, l)
	}
	return l.user, true
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

// Version returns a number that is another one whenever the file says something else. It never goes back.
func (f *File) Version() uint64 { return f.file.Version() }

// A check is what it takes to check a password that is not remembered.
type check struct {
	user, password string
	proof          recent.Proof
	origin         throttle.Origin
}

// check computes a hash, when it is the turn of the check's origin, and one of the few processors for it is free.
func (f *File) check(c check) (right bool, err error) {
	if _, known := f.remembers(c.proof); known { // by another check, while this one was on its way
		return true, nil
	}
	wait, err := f.throttle.Begin(c.origin, f.o.now())
	if err != nil {
		return false, err
	}
	defer func() { f.throttle.Done(c.origin, right) }()
	if wait > 0 {
		f.o.wait(wait)
	}
	e, known := (*f.file.Get()).find(c.user, f.seed)
	if right = f.compute(e, c.password, c.origin.Address) && known; right {
		f.logins.Put(c.proof, login{c.user, e.text, f.o.now().Add(rememberFor)})
	}
	return right, nil
}

func (f *File) compute(e *entry, password, address string) bool {
	f.hashing.Take(address)
	defer f.hashing.End()
	f.hashed.Add(1)
	return e.hash.verify(password)
}

// wrong returns the error for wrong credentials, with a hint where the reason may be one that nobody would find.
func wrong(password string) error {
	if strings.Contains(password, ":") {
		return fmt.Errorf("%w; a user name cannot have a colon, since HTTP Basic authentication takes what follows the first "+
			"colon for the password", auth.ErrCredentials)
	}
	return auth.ErrCredentials
}
