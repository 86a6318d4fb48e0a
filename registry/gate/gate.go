// Package gate decides how much is served at a time: it bounds the requests of each class that run, with a queue for a few
// more, how often an address or a user may ask, and how many uploads each of them may have under way. It knows no HTTP.
// Whatever it turns away is told why and when to come back; nothing that was let in is ever cut short.
package gate

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// A Class is a kind of requests with bounds of its own, so that one kind cannot starve another.
type Class uint8

// The classes.
const (
	Read  Class = iota // asks, and is answered with little
	Write              // changes something
	Blobs              // is sent a large blob, at whatever speed its client takes it
	classes
)

// Classes are all classes, in order.
func Classes() []Class { return []Class{Read, Write, Blobs} }

// String returns the name of a class, as in "read".
func (c Class) String() string { return [...]string{"read", "write", "blobs"}[c] }

// A Queue bounds the requests of a class.
type Queue struct {
	MaxRunning int           // at a time; 0: any number
	MaxInQueue int           // waiting while as many run; 0: none waits
	MaxWait    time.Duration // in the queue; 0: for as long as the client stays
}

// A Rate bounds how often one client asks. The zero Rate does not.
type Rate struct {
	PerSecond int // on average; 0: any number
	Burst     int // at once, after a pause; 0: as many as in ten seconds
}

// Limits are all the bounds of a Gate. The zero value bounds nothing.
type Limits struct {
	Queues     [classes]Queue // by class
	PerAddress Rate           // an IPv6 address counts with all of its /64 network
	PerUser    Rate           // of those who logged in
	Uploads    int            // bodies that one client may be sending at a time; 0: any number
}

// A Client is who asks. The zero Client is nobody in particular, and only bounded together with all others.
type Client struct {
	User    string     // "": did not log in
	Address netip.Addr // invalid: not known, as on a Unix socket
}

// ClientAt returns the client at an address such as "192.0.2.1:1234". It does not allocate.
func ClientAt(hostport, user string) Client {
	a, err := netip.ParseAddrPort(hostport)
	if err != nil {
		return Client{User: user}
	}
	return Client{user, a.Addr()}
}

// maxName bounds the names that are kept, in bytes; of a longer one its hash is.
const maxName = 128

// key is what is counted: the user alone for one who logged in, otherwise the network.
func (c Client) key() Client {
	switch {
	case len(c.User) > maxName:
		sum := sha256.Sum256([]byte(c.User))
		return Client{User: string(sum[:])}
	case c.User != "":
		return Client{User: c.User}
	}
	return Client{Address: network(c.Address)}
}

// network returns the first address of what one client is likely to have: a /64 of IPv6 is the least that is given out.
func network(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if !a.Is6() {
		return a
	}
	p, err := a.Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}

// A Request is what is to be let in.
type Request struct {
	Client Client
	Class  Class
	Upload bool // it sends the bytes of a blob
	// Gone reports whether the client has left, where the context of the request does not tell; nil: it tells. It is asked
	// every second while the request waits.
	Gone func() bool
}

// Options of a Gate: nil means defaults.
type Options struct {
	// OnWait is told how long a request waited in the queue of its class, and whether it was then let in. It must not use
	// the Gate, and is called by many goroutines at once.
	OnWait func(c Class, waited time.Duration, admitted bool)
}

// A Gate is safe for concurrent use.
type Gate struct {
	onWait   func(Class, time.Duration, bool)
	queues   [classes]queue
	address  rates
	user     rates
	uploads  shares
	rejected [reasons]atomic.Uint64
	mu       sync.Mutex // held by SetLimits
}

// New makes a gate.
func New(l Limits, o *Options) *Gate {
	g := &Gate{}
	if o != nil {
		g.onWait = o.OnWait
	}
	if g.onWait == nil {
		g.onWait = func(Class, time.Duration, bool) {}
	}
	g.SetLimits(l)
	return g
}

// SetLimits replaces the limits. Nobody is cut off or turned out of a queue: what runs or waits beyond a lower bound
// finishes, and nothing new is let in until then. How long to wait is decided when the waiting begins.
func (g *Gate) SetLimits(l Limits) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.queues {
		g.queues[c].setLimits(l.Queues[c])
	}
	g.address.setRate(l.PerAddress)
	g.user.setRate(l.PerUser)
	g.uploads.setLimit(l.Uploads)
}

// Arrive counts a request of a class against the rate of its client's address, before it is known who that is. The error is
// an [*Error].
func (g *Gate) Arrive(c Client, class Class) error {
	if !g.address.on.Load() || !c.Address.IsValid() {
		return nil
	}
	if wait, ok := g.address.take(Client{Address: network(c.Address)}); !ok {
		return g.reject(AddressRate, class, wait)
	}
	return nil
}

// Admit lets a request in, after a wait if it must be. The ticket is to be given back. The error is an [*Error].
func (g *Gate) Admit(ctx context.Context, r Request) (Ticket, error) {
	key := r.Client.key()
	if r.Client.User != "" && g.user.on.Load() {
		if wait, ok := g.user.take(key); !ok {
			return Ticket{}, g.reject(UserRate, r.Class, wait)
		}
	}
	t := Ticket{g: g, class: r.Class, gone: r.Gone}
	if r.Upload {
		if !g.uploads.take(key) {
			return Ticket{}, g.reject(Uploads, r.Class, spread())
		}
		t.upload, t.client = true, key
	}
	if err := g.enter(ctx, r.Class, r.Gone); err != nil {
		t.leaveUpload()
		return Ticket{}, err
	}
	return t, nil
}

// enter takes a slot of a class.
func (g *Gate) enter(ctx context.Context, c Class, gone func() bool) error {
	q := &g.queues[c]
	w, ok := q.enter()
	switch {
	case ok:
		return nil
	case w == nil:
		return g.reject(QueueFull, c, spread())
	}
	start := time.Now()
	err := q.wait(ctx, w, gone)
	g.onWait(c, time.Since(start), err == nil)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errWaited):
		return g.reject(WaitedTooLong, c, spread())
	}
	return g.reject(ClientLeft, c, 0)
}

func (g *Gate) reject(r Reason, c Class, wait time.Duration) error {
	g.rejected[r].Add(1)
	return &Error{Reason: r, Class: c, RetryAfter: wait}
}

// A Ticket is for a request that was let in. It belongs to one goroutine. The zero Ticket is of no gate.
type Ticket struct {
	g      *Gate
	client Client
	gone   func() bool
	class  Class
	upload bool
	used   bool
}

// Move exchanges the slot of t for one of another class, waiting in the queue of that one without holding any other. After
// an error, as of [Gate.Admit], t holds no slot.
func (t *Ticket) Move(ctx context.Context, to Class) error {
	if t.g == nil || t.used || t.class == to {
		return nil
	}
	t.g.queues[t.class].leave()
	if err := t.g.enter(ctx, to, t.gone); err != nil {
		t.used = true
		t.leaveUpload()
		return err
	}
	t.class = to
	return nil
}

// Leave gives t back; more than once is as once.
func (t *Ticket) Leave() {
	if t.g == nil || t.used {
		return
	}
	t.used = true
	t.g.queues[t.class].leave()
	t.leaveUpload()
}

func (t *Ticket) leaveUpload() {
	if t.upload {
		t.upload = false
		t.g.uploads.give(t.client)
	}
}
