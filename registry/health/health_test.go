package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"berth/storage"
	"berth/storage/memory"
)

func quiet() *logrus.Logger {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return l
}

// A sick thing has whatever error it was given, and counts how often it was looked at.
type sick struct {
	err  atomic.Pointer[error]
	runs atomic.Int32
	hang atomic.Bool // until its context ends, and for a minute more
}

func (s *sick) is(err error) { s.err.Store(&err) }

func (s *sick) run(ctx context.Context) error {
	s.runs.Add(1)
	if s.hang.Load() {
		<-ctx.Done()
		time.Sleep(time.Minute)
	}
	return *s.err.Load()
}

// watching runs a monitor of one check in a bubble.
func watching(t *testing.T, c Check, do func(t *testing.T, m *Monitor, s *sick)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := &sick{}
		s.is(nil)
		m := New(quiet(), nil)
		c.Name, c.Run = "it", s.run
		if c.Reason == nil {
			c.Reason = func(err error) string { return err.Error() }
		}
		m.Add(c)
		if c.Effect == Readiness && m.Report().Ready {
			t.Error("ready before anything was looked at")
		}
		done := make(chan struct{})
		go func() { m.Run(ctx); close(done) }()
		do(t, m, s)
		cancel()
		<-done
	})
}

var errBroken = errors.New("broken")

func TestThreshold(t *testing.T) {
	watching(t, Check{Interval: 10 * time.Second, Retry: time.Second, Threshold: 3}, func(t *testing.T, m *Monitor, s *sick) {
		synctest.Wait()
		if r := m.Report(); !r.Ready || !r.Writable || len(r.Reasons) > 0 {
			t.Errorf("%+v", r)
		}
		s.is(errBroken)
		time.Sleep(11500 * time.Millisecond) // failed at 10 s and 11 s
		if r := m.Report(); !r.Ready {
			t.Errorf("two failures of three count: %+v", r)
		}
		time.Sleep(time.Second)
		if r := m.Report(); r.Ready || !r.Writable || !slices.Equal(r.Reasons, []string{"broken"}) {
			t.Errorf("%+v", r)
		}
		if m.MayServe() != nil || m.MayChange(t.Context(), false) != nil {
			t.Error("a check of readiness refuses requests")
		}
		s.is(nil)
		time.Sleep(time.Second)
		if r := m.Report(); !r.Ready {
			t.Errorf("well again: %+v", r)
		}
	})
}

func TestHangingCheck(t *testing.T) {
	watching(t, Check{Effect: Service, Interval: 10 * time.Second, Timeout: 5 * time.Second}, func(t *testing.T, m *Monitor, s *sick) {
		synctest.Wait()
		s.hang.Store(true)
		time.Sleep(15 * time.Second)
		synctest.Wait()
		if err := m.MayServe(); err == nil || err.Error() != ErrTimeout.Error() {
			t.Errorf("MayServe = %v", err)
		}
		time.Sleep(40 * time.Second)
		if n := s.runs.Load(); n != 2 {
			t.Errorf("a check that hangs was run %d times", n)
		}
		s.hang.Store(false)
		time.Sleep(time.Minute)
		if err := m.MayServe(); err != nil {
			t.Errorf("well again: %v", err)
		}
	})
}

// TestChanges has a storage become full, and then read-only. The first change after it was mended is taken.
func TestChanges(t *testing.T) {
	watching(t, Check{Effect: Changes, Interval: time.Hour, Reason: StorageReason}, func(t *testing.T, m *Monitor, s *sick) {
		synctest.Wait()
		for _, row := range []struct {
			err           error
			puts, deletes string
		}{
			{fmt.Errorf("x: %w", storage.ErrNoSpace), "the storage is full", "<nil>"},
			{fmt.Errorf("x: %w", storage.ErrReadOnly), "the storage is read-only", "the storage is read-only"},
			{nil, "<nil>", "<nil>"},
		} {
			s.is(row.err)
			m.Suspect(Readiness)
			time.Sleep(time.Second)
			m.Suspect(Changes)
			time.Sleep(time.Second)
			puts, deletes := fmt.Sprint(m.MayChange(t.Context(), false)), fmt.Sprint(m.MayChange(t.Context(), true))
			if r := m.Report(); puts != row.puts || deletes != row.deletes || !r.Ready || r.Writable != (row.err == nil) {
				t.Errorf("with %v: puts %s, deletes %s, %+v", row.err, puts, deletes, r)
			}
		}
		s.is(storage.ErrNoSpace)
		m.Suspect(Changes)
		time.Sleep(time.Second)
		s.is(nil)
		if m.Report().Writable {
			t.Error("it was not noticed")
		}
		if err := m.MayChange(t.Context(), false); err != nil {
			t.Errorf("the first change after it was mended: %v", err)
		}
	})
}

// TestGap has many changes refused at once: the storage is not looked at for each of them.
func TestGap(t *testing.T) {
	watching(t, Check{Effect: Changes, Interval: time.Hour}, func(t *testing.T, m *Monitor, s *sick) {
		synctest.Wait()
		s.is(storage.ErrReadOnly)
		m.Suspect(Changes)
		time.Sleep(time.Second)
		before := s.runs.Load()
		for range 100 {
			go m.MayChange(t.Context(), false)
		}
		time.Sleep(10 * gap)
		if n := s.runs.Load() - before; n < 1 || n > 3 {
			t.Errorf("looked %d times", n)
		}
	})
}

func TestWriting(t *testing.T) {
	var look, try error
	tried := 0
	w := &Writing{Look: func() error { return look }, Try: func(context.Context) error { tried++; return try }}
	expect := func(what string, want error, tries int) {
		t.Helper()
		tried = 0
		if err := w.Check(t.Context()); !errors.Is(err, want) || tried != tries {
			t.Errorf("%s: %v, tried %d times", what, err, tried)
		}
	}
	expect("nothing is wrong", nil, 0)
	look = storage.ErrReadOnly
	expect("it is seen", storage.ErrReadOnly, 0)
	look, try = nil, errBroken
	expect("it is not seen any more", errBroken, 1)
	expect("still broken", errBroken, 1)
	try = nil
	expect("mended", nil, 1)
	expect("still well", nil, 0)
	w.Doubt()
	expect("a write failed", nil, 1)
}

type unwell struct {
	storage.Driver
	healthy, stat error
}

func (d unwell) Healthy() error { return d.healthy }

func (d unwell) Stat(context.Context, string) (storage.Info, error) { return storage.Info{}, d.stat }

func TestStorage(t *testing.T) {
	full := fmt.Errorf("secret: %w", storage.ErrNoSpace)
	for _, row := range []struct {
		driver storage.Driver
		want   error
		reason string
	}{
		{memory.New(), nil, ""},
		{unwell{stat: full}, full, "the storage is full"},
		{unwell{healthy: storage.ErrUnavailable}, storage.ErrUnavailable, "the storage is unavailable"},
		{unwell{stat: io.ErrUnexpectedEOF}, io.ErrUnexpectedEOF, "the storage fails"},
		{unwell{stat: context.DeadlineExceeded}, context.DeadlineExceeded, "the storage does not answer"},
	} {
		err := Storage(row.driver)(t.Context())
		if !errors.Is(err, row.want) || err != nil && StorageReason(err) != row.reason {
			t.Errorf("%v: %q", err, StorageReason(err))
		}
	}
}

func TestRoom(t *testing.T) {
	free, least, failing := uint64(100), uint64(0), error(nil)
	check := Room(func() (uint64, uint64, error) { return free, 1000, failing }, func() uint64 { return least })
	for _, row := range []struct {
		free, least uint64
		failing     error
		full        bool
	}{{0, 0, nil, false}, {100, 100, nil, false}, {99, 100, nil, true}, {0, 100, errBroken, false}} {
		free, least, failing = row.free, row.least, row.failing
		if err := check(t.Context()); errors.Is(err, storage.ErrNoSpace) != row.full {
			t.Errorf("%+v: %v", row, err)
		}
	}
}

func TestNamedChecks(t *testing.T) {
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodHead || r.Header.Get("X-Key") != "v" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "down")
	addr := server.Listener.Addr().String()
	responds := Responds(server.URL, http.Header{"X-Key": {"v"}}, http.StatusOK)
	expect := func(what string, check func(context.Context) error, well bool) {
		t.Helper()
		if err := check(t.Context()); (err == nil) != well {
			t.Errorf("%s: %v", what, err)
		}
	}
	expect("no file", NoFile(file), true)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	expect("a file", NoFile(file), false)
	expect("a URL", responds, true)
	status = http.StatusFound
	expect("a redirect", responds, false)
	expect("without its header", Responds(server.URL, nil, http.StatusOK), false)
	expect("an address", Answers(addr), true)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	expect("an address that nobody listens at", Answers(l.Addr().String()), false)
	expect("a URL that nobody answers at", Responds("http://"+l.Addr().String(), nil, 200), false)
}
