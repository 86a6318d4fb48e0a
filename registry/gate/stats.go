package gate

import (
	"math/rand/v2"
	"time"
)

// A Reason says why a request was not let in.
type Reason uint8

// The reasons.
const (
	QueueFull     Reason = iota // as many run as may, and as many wait
	WaitedTooLong               // its turn did not come in time
	ClientLeft                  // the client went away while it waited
	AddressRate                 // the address asks too often
	UserRate                    // the user asks too often
	Uploads                     // the client has too many uploads under way
	reasons
)

// Reasons are all reasons, in order.
func Reasons() []Reason {
	return []Reason{QueueFull, WaitedTooLong, ClientLeft, AddressRate, UserRate, Uploads}
}

// String returns a name for r that fits the label of a metric, as in "queue_full".
func (r Reason) String() string {
	return [...]string{"queue_full", "waited_too_long", "client_left", "address_rate", "user_rate", "uploads"}[r]
}

// An Error turns a request away for now.
type Error struct {
	Reason     Reason
	Class      Class         // of the request, when it was turned away
	RetryAfter time.Duration // when it is worth trying again
}

// Error says to a client what it may do about it.
func (e *Error) Error() string {
	return [...]string{
		QueueFull:     "the registry is busy, and as many requests wait as may; try again later",
		WaitedTooLong: "the registry is busy, and this request has waited long; try again later",
		ClientLeft:    "the client left",
		AddressRate:   "too many requests from this address; try again later",
		UserRate:      "too many requests by this user; try again later",
		Uploads:       "too many uploads at a time; finish some of them first",
	}[e.Reason]
}

// spread is when to come back where no moment is better than another: 1 to 3 s, at random, so that those who were turned
// away together do not come back together.
func spread() time.Duration { return time.Second + rand.N(2*time.Second) }

// Stats are what a Gate holds and has done since it was made.
type Stats struct {
	Classes  [classes]ClassStats // by class
	Uploads  int                 // bodies that are being received
	Rejected [reasons]uint64     // by reason
}

// ClassStats are those of one class.
type ClassStats struct {
	Running, Queued         int    // now
	PeakRunning, PeakQueued int    // at any time
	Admitted                uint64 // requests, whether they waited or not
	Limits                  Queue  // in force
}

// Stats returns the state of g: that of each class is consistent in itself.
func (g *Gate) Stats() (s Stats) {
	for c := range g.queues {
		s.Classes[c] = g.queues[c].snapshot()
	}
	s.Uploads = g.uploads.sum()
	for r := range g.rejected {
		s.Rejected[r] = g.rejected[r].Load()
	}
	return s
}

// Admitted returns how many requests g has let in so far.
func (g *Gate) Admitted() (n uint64) {
	for c := range g.queues {
		n += g.queues[c].snapshot().Admitted
	}
	return n
}
