package gate

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// queues returns limits of the class Read.
func queues(q Queue) (l Limits) {
	l.Queues[Read] = q
	return l
}

// reason returns why an error turns a request away, and fails the test if it does not.
func reason(t *testing.T, err error) Reason {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("%v is not a refusal", err)
	}
	if e.Reason != ClientLeft && e.RetryAfter <= 0 {
		t.Errorf("%v: come back after %v", e.Reason, e.RetryAfter)
	}
	return e.Reason
}

func admit(t *testing.T, g *Gate) Ticket {
	t.Helper()
	ticket, err := g.Admit(t.Context(), Request{})
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

func TestFirstComeFirstServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(queues(Queue{MaxRunning: 1, MaxInQueue: 5}), nil)
		first := admit(t, g)
		var order []int
		for i := range 5 {
			go func() {
				ticket, err := g.Admit(t.Context(), Request{})
				if err != nil {
					t.Error(err)
				}
				order = append(order, i)
				ticket.Leave()
			}()
			synctest.Wait()
		}
		if _, err := g.Admit(t.Context(), Request{}); reason(t, err) != QueueFull {
			t.Error(err)
		}
		first.Leave()
		synctest.Wait()
		if !slices.Equal(order, []int{0, 1, 2, 3, 4}) {
			t.Errorf("served in the order %v", order)
		}
		s := g.Stats().Classes[Read]
		if s.Running != 0 || s.Queued != 0 || s.PeakRunning != 1 || s.PeakQueued != 5 || s.Admitted != 6 {
			t.Errorf("%+v", s)
		}
	})
}

func TestNobodyOvertakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(queues(Queue{MaxRunning: 1, MaxInQueue: 1, MaxWait: time.Second}), nil)
		first := admit(t, g)
		var second error
		go func() { _, second = g.Admit(t.Context(), Request{}) }()
		synctest.Wait()
		first.Leave() // the slot is the waiter's from now on, though it has not run yet
		if _, err := g.Admit(t.Context(), Request{}); reason(t, err) != WaitedTooLong {
			t.Errorf("the third: %v", err)
		}
		synctest.Wait()
		if second != nil {
			t.Errorf("the second: %v", second)
		}
	})
}

func TestWaiting(t *testing.T) {
	left := &Error{Reason: ClientLeft}
	for _, test := range []struct {
		name   string
		wait   time.Duration // the limit
		leaves time.Duration // when the context ends; 0: never
		gone   time.Duration // when the client is gone by what Gone says; 0: never
		want   *Error
		after  time.Duration
	}{
		{"too long", 30 * time.Second, 0, 0, &Error{Reason: WaitedTooLong}, 30 * time.Second},
		{"the client leaves", 30 * time.Second, 7 * time.Second, 0, left, 7 * time.Second},
		{"the client leaves, and only the socket knows", 0, 0, 3500 * time.Millisecond, left, 4 * time.Second},
		{"for as long as the client stays", 0, time.Hour, 0, left, time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var waited time.Duration
				g := New(queues(Queue{MaxRunning: 1, MaxInQueue: 1, MaxWait: test.wait}), &Options{
					OnWait: func(_ Class, d time.Duration, admitted bool) {
						waited = d
						if admitted {
							t.Error("admitted")
						}
					},
				})
				held := admit(t, g)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if test.leaves > 0 {
					time.AfterFunc(test.leaves, cancel)
				}
				start := time.Now()
				r := Request{}
				if test.gone > 0 {
					r.Gone = func() bool { return time.Since(start) > test.gone }
				}
				_, err := g.Admit(ctx, r)
				if got := reason(t, err); got != test.want.Reason || time.Since(start) != test.after || waited != test.after {
					t.Errorf("%v after %v, reported as %v", err, time.Since(start), waited)
				}
				if s := g.Stats(); s.Classes[Read].Queued != 0 || s.Rejected[test.want.Reason] != 1 {
					t.Errorf("%+v", s)
				}
				held.Leave()
				again := admit(t, g)
				again.Leave()
			})
		})
	}
}

func TestOff(t *testing.T) {
	g := New(Limits{}, nil)
	var tickets []Ticket
	for range 1000 {
		tickets = append(tickets, admit(t, g))
	}
	if n := g.Stats().Classes[Read].Running; n != 1000 {
		t.Errorf("%d run", n)
	}
	for i := range tickets {
		tickets[i].Leave()
		tickets[i].Leave()
	}
	if n := g.Stats().Classes[Read].Running; n != 0 {
		t.Errorf("%d run after all have left", n)
	}
}

// TestReload changes the limits under running and waiting requests: none of them is cut or turned out.
func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(queues(Queue{MaxRunning: 3, MaxInQueue: 4}), nil)
		running := []Ticket{admit(t, g), admit(t, g), admit(t, g)}
		served := make(chan Ticket, 4)
		for range 4 {
			go func() {
				ticket, err := g.Admit(t.Context(), Request{})
				if err != nil {
					t.Error(err)
				}
				served <- ticket
			}()
		}
		synctest.Wait()
		g.SetLimits(queues(Queue{MaxRunning: 1, MaxInQueue: 0}))
		synctest.Wait()
		if s := g.Stats().Classes[Read]; s.Running != 3 || s.Queued != 4 {
			t.Errorf("after lowering the limits %d run and %d wait", s.Running, s.Queued)
		}
		running[0].Leave()
		running[1].Leave()
		synctest.Wait()
		if s := g.Stats().Classes[Read]; s.Running != 1 || s.Queued != 4 {
			t.Errorf("after two have left %d run and %d wait", s.Running, s.Queued)
		}
		g.SetLimits(queues(Queue{MaxRunning: 4, MaxInQueue: 0}))
		synctest.Wait()
		if s := g.Stats().Classes[Read]; s.Running != 4 || s.Queued != 1 {
			t.Errorf("after raising the limit %d run and %d wait", s.Running, s.Queued)
		}
		g.SetLimits(Limits{})
		synctest.Wait()
		if s := g.Stats().Classes[Read]; s.Running != 5 || s.Queued != 0 {
			t.Errorf("without limits %d run and %d wait", s.Running, s.Queued)
		}
	})
}

// TestMove has slow downloads fill their class, and small reads go on.
func TestMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := queues(Queue{MaxRunning: 1})
		l.Queues[Blobs] = Queue{MaxRunning: 2, MaxInQueue: 1, MaxWait: time.Minute}
		g := New(l, nil)
		download := func() (Ticket, error) {
			ticket, err := g.Admit(t.Context(), Request{})
			if err != nil {
				return ticket, err
			}
			err = ticket.Move(t.Context(), Blobs)
			return ticket, err
		}
		first, err1 := download()
		second, err2 := download()
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		go func() {
			third, err := download()
			if err != nil {
				t.Error(err)
			}
			third.Leave()
		}()
		synctest.Wait()
		fourth, err := download()
		if reason(t, err) != QueueFull {
			t.Error(err)
		}
		fourth.Leave()
		small := admit(t, g)
		small.Leave()
		first.Leave()
		second.Leave()
		synctest.Wait()
		for _, c := range Classes() {
			if s := g.Stats().Classes[c]; s.Running != 0 || s.Queued != 0 {
				t.Errorf("%v: %+v", c, s)
			}
		}
	})
}

// TestCrowd has many goroutines come, wait, lose patience and leave, and looks from outside whether the bounds hold.
func TestCrowd(t *testing.T) {
	const running, queued, crowd, rounds = 4, 8, 64, 300
	g := New(queues(Queue{MaxRunning: running, MaxInQueue: queued, MaxWait: 5 * time.Millisecond}), nil)
	var mu sync.Mutex
	inside, most := 0, 0
	var admitted, turned uint64
	var all sync.WaitGroup
	for n := range crowd {
		all.Go(func() {
			for i := range rounds {
				ctx, cancel := context.WithCancel(t.Context())
				if (n+i)%7 == 0 {
					time.AfterFunc(time.Duration(i%5)*time.Millisecond/4, cancel)
				}
				ticket, err := g.Admit(ctx, Request{})
				mu.Lock()
				if err != nil {
					turned++
					mu.Unlock()
					cancel()
					continue
				}
				admitted++
				inside++
				most = max(most, inside)
				mu.Unlock()
				time.Sleep(time.Duration(i%3) * 50 * time.Microsecond)
				mu.Lock()
				inside--
				mu.Unlock()
				ticket.Leave()
				cancel()
			}
		})
	}
	all.Wait()
	s := g.Stats()
	c := s.Classes[Read]
	if most > running || c.PeakRunning != running || c.PeakQueued > queued || c.Running != 0 || c.Queued != 0 {
		t.Errorf("%d at a time; %+v", most, c)
	}
	refused := s.Rejected[QueueFull] + s.Rejected[WaitedTooLong] + s.Rejected[ClientLeft]
	// One who got a slot at the moment of leaving gives it back: it was admitted, and is turned away all the same.
	if admitted+turned != crowd*rounds || refused != turned || c.Admitted < admitted || c.Admitted > admitted+s.Rejected[ClientLeft] {
		t.Errorf("%d admitted, %d turned away; %+v", admitted, turned, s)
	}
}

func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Limits{PerAddress: Rate{PerSecond: 2, Burst: 3}, PerUser: Rate{PerSecond: 1}}, nil)
		here, there := ClientAt("192.0.2.1:1", ""), ClientAt("192.0.2.2:1", "")
		for range 3 {
			if err := g.Arrive(here, Read); err != nil {
				t.Fatal(err)
			}
		}
		err := g.Arrive(here, Read)
		if reason(t, err) != AddressRate {
			t.Fatal(err)
		}
		if e, _ := errors.AsType[*Error](err); e.RetryAfter != time.Second/2 {
			t.Errorf("come back after %v", e.RetryAfter)
		}
		if err := errors.Join(g.Arrive(there, Read), g.Arrive(Client{}, Read)); err != nil {
			t.Errorf("others: %v", err)
		}
		time.Sleep(time.Second / 2)
		if err := g.Arrive(here, Read); err != nil {
			t.Errorf("after a while: %v", err)
		}
		ask := func(user string) error {
			ticket, err := g.Admit(t.Context(), Request{Client: ClientAt("192.0.2.9:1", user)})
			ticket.Leave()
			return err
		}
		for range 10 {
			if err := errors.Join(ask("amy"), ask("")); err != nil {
				t.Fatal(err)
			}
		}
		if err := ask("amy"); reason(t, err) != UserRate {
			t.Error(err)
		}
		if err := errors.Join(ask("bob"), ask("")); err != nil {
			t.Error(err)
		}
	})
}

func TestNetworks(t *testing.T) {
	for _, test := range []struct{ address, want string }{
		{"192.0.2.7:80", "192.0.2.7"},
		{"[::ffff:192.0.2.7]:80", "192.0.2.7"},
		{"[2001:db8:1:2:3:4:5:6]:80", "2001:db8:1:2::"},
		{"[fe80::1%eth0]:80", "fe80::"},
		{"@", "invalid IP"},
		{"", "invalid IP"},
	} {
		if got := network(ClientAt(test.address, "").Address).String(); got != test.want {
			t.Errorf("%s counts as %s, want %s", test.address, got, test.want)
		}
	}
}

// TestForgets asks from more addresses than are remembered.
func TestForgets(t *testing.T) {
	g := New(Limits{PerAddress: Rate{PerSecond: 1, Burst: 1}}, nil)
	client := func(i int) Client {
		return Client{Address: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}
	}
	for i := range maxClients {
		if err := g.Arrive(client(i), Read); err != nil {
			t.Fatal(err)
		}
	}
	if g.Arrive(client(0), Read) == nil {
		t.Error("the first was forgotten too early")
	}
	if err := g.Arrive(client(maxClients), Read); err != nil {
		t.Error(err)
	}
	if err := g.Arrive(client(1), Read); err != nil { // the one that has not asked for longest
		t.Error(err)
	}
	if n := len(g.address.buckets); n != maxClients || g.address.recent.Len() != n {
		t.Errorf("%d are remembered", n)
	}
}

func TestUploads(t *testing.T) {
	g := New(Limits{Uploads: 2}, nil)
	upload := func(address, user string) (Ticket, error) {
		return g.Admit(t.Context(), Request{Client: ClientAt(address, user), Class: Write, Upload: true})
	}
	first, _ := upload("192.0.2.1:1", "amy")
	second, _ := upload("192.0.2.2:1", "amy")
	if _, err := upload("192.0.2.3:1", "amy"); reason(t, err) != Uploads {
		t.Error(err)
	}
	for _, other := range []Request{
		{Client: ClientAt("192.0.2.1:1", "amy"), Class: Write},
		{Client: ClientAt("192.0.2.1:1", "bob"), Class: Write, Upload: true},
		{Client: ClientAt("192.0.2.1:1", ""), Class: Write, Upload: true},
	} {
		ticket, err := g.Admit(t.Context(), other)
		if err != nil {
			t.Error(err)
		}
		ticket.Leave()
	}
	first.Leave()
	first.Leave()
	third, err := upload("192.0.2.3:1", "amy")
	if err != nil {
		t.Error(err)
	}
	if n := g.Stats().Uploads; n != 2 {
		t.Errorf("%d uploads", n)
	}
	second.Leave()
	third.Leave()
	if n := g.Stats().Uploads; n != 0 || len(g.uploads.held) != 0 {
		t.Errorf("%d uploads are left", n)
	}
}

// TestUploadTurnedAway has an upload that found no slot: it does not count any more.
func TestUploadTurnedAway(t *testing.T) {
	l := Limits{Uploads: 2}
	l.Queues[Write] = Queue{MaxRunning: 1}
	g := New(l, nil)
	r := Request{Client: ClientAt("", "amy"), Class: Write, Upload: true}
	first, err := g.Admit(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := g.Admit(t.Context(), r); reason(t, err) != QueueFull {
			t.Fatal(err)
		}
	}
	first.Leave()
	if n := g.Stats().Uploads; n != 0 {
		t.Errorf("%d uploads are left", n)
	}
}

func TestLongNames(t *testing.T) {
	long := Client{User: fmt.Sprintf("%0200d", 1)}
	other := Client{User: fmt.Sprintf("%0200d", 2)}
	if k := long.key(); len(k.User) > maxName || k == other.key() || k != long.key() {
		t.Errorf("%q", k.User)
	}
}

func TestNames(t *testing.T) {
	var names []string
	for _, r := range Reasons() {
		names = append(names, r.String(), (&Error{Reason: r}).Error())
	}
	for _, c := range Classes() {
		names = append(names, c.String())
	}
	if len(Reasons()) != int(reasons) || len(Classes()) != int(classes) || slices.Contains(names, "") {
		t.Error(names)
	}
}

func BenchmarkAdmit(b *testing.B) {
	limited := queues(Queue{MaxRunning: 1000, MaxInQueue: 1000, MaxWait: time.Minute})
	all := limited
	all.PerAddress, all.PerUser, all.Uploads = Rate{PerSecond: 1e9}, Rate{PerSecond: 1e9}, 1000
	for _, bench := range []struct {
		name   string
		limits Limits
		upload bool
	}{{"off", Limits{}, false}, {"queue", limited, false}, {"queue, rates and uploads", all, true}} {
		b.Run(bench.name, func(b *testing.B) {
			g := New(bench.limits, nil)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := g.Arrive(ClientAt("192.0.2.1:1234", ""), Write); err != nil {
						b.Error(err)
					}
					t, err := g.Admit(b.Context(), Request{Client: ClientAt("192.0.2.1:1234", "amy"), Upload: bench.upload})
					if err != nil {
						b.Error(err)
					}
					t.Leave()
				}
			})
		})
	}
}
