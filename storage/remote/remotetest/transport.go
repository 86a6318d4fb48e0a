// Package remotetest tries a driver of package remote over a network that fails: every request in turn, in each way, and many
// at once. The service is one in memory that takes the place of the network.
package remotetest

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"berth/storage"
)

// A Service is what a driver speaks to, in memory.
type Service struct {
	// Fake makes one that is empty.
	Fake func() http.RoundTripper
	// Open makes a driver that lives as long as a test, with parts of Part bytes, and no more than Parallel of them on their way.
	Open           func(t testing.TB, transport http.RoundTripper) storage.Driver
	Part, Parallel int
	// Refusal words an answer.
	Refusal func(Fault) Answer
	// Left returns what is left in a service besides objects. A nil one is not asked.
	Left func(fake http.RoundTripper) string
	// IsPart reports whether a request brings a part of an object. PartStatus and PartHeader begin its answer.
	IsPart     func(*http.Request) bool
	PartStatus int
	PartHeader http.Header
}

// A Fault is what happens to a request.
type Fault int

// The faults.
const (
	pass     Fault = iota
	before         // not performed, and the connection breaks
	after          // performed, and the reply is lost
	cut            // performed, and the body of the reply ends in the middle
	short          // performed, and the body of the reply ends well, but too early
	hang           // nothing happens until the caller gives up
	Slow           // refused: too many requests
	Broken         // refused: something went wrong within
	Expired        // refused: the credentials have ended
	Vanished       // refused: the bucket is gone
)

func (f Fault) String() string {
	return []string{"pass", "before", "after", "cut", "short", "hang", "slow", "broken", "expired", "vanished"}[f]
}

// faulty is a transport with faults.
type faulty struct {
	service Service
	next    http.RoundTripper
	plan    func(n int, r *http.Request) Fault
	n       atomic.Int64
	hit     atomic.Int64
}

// faulty returns a transport without faults yet, to a new fake.
func (s Service) faulty() *faulty {
	return &faulty{service: s, next: s.Fake(), plan: never}
}

func never(int, *http.Request) Fault { return pass }

var errReset = errors.New("connection reset by peer")

func (f *faulty) RoundTrip(r *http.Request) (*http.Response, error) {
	what := f.plan(int(f.n.Add(1)), r)
	if what != pass {
		f.hit.Add(1)
	}
	switch what {
	case before:
		return nil, errReset
	case Slow, Broken, Expired, Vanished:
		return f.service.Refusal(what).Response(r), nil
	case hang:
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	response, err := f.next.RoundTrip(r)
	switch {
	case err != nil:
		return nil, err
	case what == after, (what == cut || what == short) && response.ContentLength < 2:
		return nil, errReset
	case what == cut:
		response.Body = io.NopCloser(io.MultiReader(io.LimitReader(response.Body, response.ContentLength/2), failing{}))
	case what == short:
		response.Body = io.NopCloser(io.LimitReader(response.Body, response.ContentLength/2))
	}
	return response, nil
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
