package throttle

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"berth/auth"
)

// Attempts at once gain nothing: all count, and what would have to wait too long is turned away without a hash.
func TestAttemptsAtOnceAreSlowed(t *testing.T) {
	th := New()
	o := Origin{"alice", "A"}
	now := time.Now()
	var waits []time.Duration
	var turned *auth.ThrottledError
	for turned == nil {
		wait, err := th.Begin(o, now)
		if err != nil && !errors.As(err, &turned) {
			t.Fatal(err)
		}
		waits = append(waits, wait)
	}
	if want := "[0s 0s 0s 250ms 750ms 1.75s 3.75s 7.75s 0s]"; fmt.Sprint(waits) != want {
		t.Errorf("waits are %v, want %s", waits, want)
	}
	if turned.RetryAfter <= maxWait {
		t.Errorf("to be retried after %v", turned.RetryAfter)
	}
}

func TestPendingAttemptsAreBounded(t *testing.T) {
	th := New()
	now := time.Now()
	var turned *auth.ThrottledError
	for i := range maxPending {
		if _, err := th.Begin(Origin{fmt.Sprint(i), "A"}, now); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := th.Begin(Origin{"alice", "A"}, now); !errors.As(err, &turned) {
		t.Fatalf("got %v, want the attempt to be turned away", err)
	}
	if _, err := th.Begin(Origin{"alice", "B"}, now); err != nil {
		t.Fatalf("another address: %v", err)
	}
	for i := range maxPending {
		th.Done(Origin{fmt.Sprint(i), "A"}, false)
	}
	th.Done(Origin{"alice", "B"}, true)
	if len(th.pending) != 0 || th.total != 0 {
		t.Errorf("%d addresses and %d attempts are left", len(th.pending), th.total)
	}
}

func TestAllPendingAttemptsAreBounded(t *testing.T) {
	th := New()
	for i := range maxPendings {
		if _, err := th.Begin(Origin{"alice", fmt.Sprint(i)}, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	var turned *auth.ThrottledError
	if _, err := th.Begin(Origin{"alice", "another"}, time.Now()); !errors.As(err, &turned) {
		t.Fatalf("got %v, want the attempt to be turned away", err)
	}
}

// TestManyAddresses has each of many addresses try as much as it may. There is room for others yet.
func TestManyAddresses(t *testing.T) {
	th := New()
	for range maxPending {
		for address := range 256 {
			_, _ = th.Begin(Origin{"alice", fmt.Sprint(address)}, time.Now())
		}
	}
	for other := range 16 {
		if _, err := th.Begin(Origin{"bob", fmt.Sprint("other", other)}, time.Now()); err != nil {
			t.Fatalf("with %d pending: %v", th.total, err)
		}
	}
}

func TestPeer(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:1234":             "192.0.2.1",
		"[::ffff:192.0.2.1]:1":       "192.0.2.1",
		"[2001:db8:1:2:3:4:5:6]:443": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:1":           "fe80::/64",
		"@":                          "@",
		"":                           "",
	} {
		if got := Peer(remote); got != want {
			t.Errorf("%s: got %s, want %s", remote, got, want)
		}
	}
}

func TestOriginsAreBounded(t *testing.T) {
	th, now := New(), time.Now()
	for i := range 3 * maxOrigins {
		o := Origin{"alice", fmt.Sprint(i)}
		if _, err := th.Begin(o, now); err != nil {
			t.Fatal(err)
		}
		th.Done(o, false)
	}
	if n := th.trials.Len(); n > 2*maxOrigins || n < maxOrigins {
		t.Errorf("%d origins are kept", n)
	}
}
