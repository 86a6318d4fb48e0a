package htpasswd

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"berth/auth"
	"berth/auth/throttle"
)

// fixture is a File by a clock that the test turns and that waiting turns.
type fixture struct {
	t    testing.TB
	path string
	*File

	mu    sync.Mutex
	now   time.Time
	waits []time.Duration
	errs  []error
}

func newFixture(t testing.TB, content string) *fixture {
	t.Helper()
	f := &fixture{t: t, path: filepath.Join(t.TempDir(), "htpasswd"), now: time.Now()}
	f.write(content)
	file, err := Open(f.path, &Options{
		OnError: func(err error) { f.errs = append(f.errs, err) },
		now: func() time.Time {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.now
		},
		wait: func(d time.Duration) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.waits = append(f.waits, d)
			f.now = f.now.Add(d)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	f.File = file
	return f
}

func (f *fixture) write(content string) {
	f.t.Helper()
	if err := os.WriteFile(f.path, []byte(content), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func attempt(user, password, address string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
	r.RemoteAddr = address
	r.SetBasicAuth(user, password)
	return r
}

// login expects an error that matches want; nil for none.
func (f *fixture) login(user, password, address string, want error) {
	f.t.Helper()
	s, err := f.Authenticate(attempt(user, password, address))
	if !errors.Is(err, want) {
		f.t.Fatalf("%s:%s from %s: got %v, want %v", user, password, address, err, want)
	}
	if (s.Name == user) != (want == nil) {
		f.t.Fatalf("%s:%s from %s: got %+v, %v", user, password, address, s, err)
	}
}

// hashes expects that n hashes were computed since the last call.
func (f *fixture) hashes(n uint64) {
	f.t.Helper()
	if got := f.hashed.Swap(0); got != n {
		f.t.Fatalf("%d hashes were computed, want %d", got, n)
	}
}

func TestAuthenticate(t *testing.T) {
	f := newFixture(t, "alice:"+hashOf(t, "secret"))
	for _, test := range []struct {
		name   string
		set    func(*http.Request)
		user   string
		errors error
	}{
		{name: "right", set: func(r *http.Request) { r.SetBasicAuth("alice", "secret") }, user: "alice"},
		{name: "wrong", set: func(r *http.Request) { r.SetBasicAuth("alice", "Secret") }, errors: auth.ErrCredentials},
		{name: "empty password", set: func(r *http.Request) { r.SetBasicAuth("alice", "") }, errors: auth.ErrCredentials},
		{name: "unknown", set: func(r *http.Request) { r.SetBasicAuth("bob", "secret") }, errors: auth.ErrCredentials},
		{name: "user in another case", set: func(r *http.Request) { r.SetBasicAuth("Alice", "secret") }, errors: auth.ErrCredentials},
		{name: "long password", set: func(r *http.Request) { r.SetBasicAuth("alice", strings.Repeat("x", 300)) }, errors: auth.ErrCredentials},
		{name: "malformed", set: func(r *http.Request) { r.Header.Set("Authorization", "Basic !") }, errors: auth.ErrMalformed},
		{name: "none", set: func(*http.Request) {}},
		{name: "another scheme", set: func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }},
	} {
		r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
		test.set(r)
		s, err := f.Authenticate(r)
		if s.Name != test.user || !errors.Is(err, test.errors) || s.Groups != nil || s.Grants != nil {
			t.Errorf("%s: got %+v, %v", test.name, s, err)
		}
	}
}

func TestColonInUserNameIsExplained(t *testing.T) {
	f := newFixture(t, "kube:"+hashOf(t, "secret"))
	r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
	r.SetBasicAuth("kube:admin", "secret")
	if _, err := f.Authenticate(r); !errors.Is(err, auth.ErrCredentials) || !strings.Contains(err.Error(), "colon") {
		t.Errorf("got %v, want an error that says why", err)
	}
}

func TestVerifiedPasswordIsRemembered(t *testing.T) {
	f := newFixture(t, "alice:"+hashOf(t, "secret"))
	for range 10 {
		f.login("alice", "secret", "A", nil)
	}
	f.login("alice", "secret", "B", nil)
	f.hashes(1)
	f.login("alice", "secret2", "A", auth.ErrCredentials)
	f.hashes(1)
	for range 10 { // it is in use
		f.now = f.now.Add(rememberFor * 2 / 3)
		f.login("alice", "secret", "A", nil)
	}
	f.hashes(0)
	f.now = f.now.Add(rememberFor)
	f.login("alice", "secret", "A", nil)
	f.hashes(1)
}

func TestWrongPasswordIsNotRemembered(t *testing.T) {
	f := newFixture(t, "alice:"+hashOf(t, "secret"))
	f.login("alice", "wrong", "A", auth.ErrCredentials)
	f.login("alice", "wrong", "A", auth.ErrCredentials)
	f.hashes(2)
}

// A change of a user's line ends what is remembered of that user, and of no other.
func TestChangedEntryIsForgotten(t *testing.T) {
	bob := "\nbob:" + hashOf(t, "bob's")
	f := newFixture(t, "alice:"+hashOf(t, "secret")+bob)
	f.login("alice", "secret", "A", nil)
	f.login("bob", "bob's", "A", nil)
	f.hashes(2)

	f.write("alice:" + hashOf(t, "other") + bob)
	f.Refresh()
	f.login("alice", "secret", "A", auth.ErrCredentials)
	f.login("alice", "other", "A", nil)
	f.login("bob", "bob's", "A", nil)
	f.hashes(2)

	f.write(bob)
	f.Refresh()
	f.login("alice", "other", "B", auth.ErrCredentials)
}

func TestSameHashUnderAnotherNameIsNotRemembered(t *testing.T) {
	hash := hashOf(t, "secret")
	f := newFixture(t, "alice:"+hash)
	f.login("alice", "secret", "A", nil)
	f.write("bob:" + hash)
	f.Refresh()
	f.login("alice", "secret", "B", auth.ErrCredentials)
	f.hashes(2)
	f.login("bob", "secret", "A", nil)
	f.hashes(1)
}

// TestCVE_2023_20902: an unknown user costs what a known one does, so that time does not tell which names there are.
func TestCVE_2023_20902(t *testing.T) {
	for name, content := range map[string]string{"some users": "alice:" + hashOf(t, "secret"), "no users": "# none\n"} {
		f := newFixture(t, content)
		f.login("nobody", "secret", "A", auth.ErrCredentials)
		f.hashes(1)
		f.login("nobody", "secret", "A", auth.ErrCredentials) // whosever password it is, it is never remembered
		f.hashes(1)
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

func TestBadFileLeavesTheLastGoodState(t *testing.T) {
	f := newFixture(t, "alice:"+hashOf(t, "secret"))
	f.write("alice:" + hashOf(t, "secret") + "\nbob:plain\n")
	f.Refresh()
	f.Refresh()
	f.login("alice", "secret", "A", nil)
	if len(f.errs) != 1 || !strings.Contains(f.errs[0].Error(), f.path+":2: ") {
		t.Errorf("got %q, want one error that names the file and the line", f.errs)
	}
}

func TestOpenNamesFileAndLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "htpasswd")
	if _, err := Open(path, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: got %v", err)
	}
	if err := os.WriteFile(path, []byte("\nalice:{SHA}x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, nil); err == nil || !strings.HasPrefix(err.Error(), "read the users: "+path+":2: the hash is SHA-1") {
		t.Errorf("malformed: got %v", err)
	}
}

func TestFailuresAreSlowed(t *testing.T) {
	f := newFixture(t, "alice:"+hashOf(t, "secret"))
	for range 9 {
		f.login("alice", "wrong", "A", auth.ErrCredentials)
	}
	want := []time.Duration{250e6, 500e6, 1e9, 2e9, 4e9, 5e9}
	if fmt.Sprint(f.waits) != fmt.Sprint(want) {
		t.Errorf("waited %v, want %v", f.waits, want)
	}
	f.waits = nil
	f.login("alice", "secret", "A", nil) // late, and right
	f.login("alice", "wrong", "A", auth.ErrCredentials)
	if len(f.waits) != 1 {
		t.Errorf("waited %v, want once: a success ends the slowing", f.waits)
	}
	f.waits = nil
	for range 4 {
		f.login("alice", "wrong", "A", auth.ErrCredentials)
	}
	f.now = f.now.Add(11 * time.Minute)
	f.waits = nil
	f.login("alice", "wrong", "A", auth.ErrCredentials)
	if len(f.waits) != 0 {
		t.Errorf("waited %v after the failures were to be forgotten", f.waits)
	}
}

func TestNobodyIsLockedOut(t *testing.T) {
	f := newFixture(t, "alice:"+hashOf(t, "secret"))
	for range 20 {
		f.login("alice", "wrong", "attacker", auth.ErrCredentials)
	}
	f.waits = nil
	f.login("alice", "secret", "alice's", nil)
	f.login("alice", "secret", "attacker", nil) // remembered
	if len(f.waits) != 0 {
		t.Errorf("waited %v", f.waits)
	}
}

func TestHashingIsBounded(t *testing.T) {
	f := newFixture(t, "alice:"+hashOf(t, "secret"))
	var running, most atomic.Int32
	slow := verifierFunc(func(string) bool {
		most.Store(max(most.Load(), running.Add(1)))
		time.Sleep(time.Millisecond)
		running.Add(-1)
		return false
	})
	f.hashing = throttle.NewTurns(2)
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() { f.compute(&entry{hash: slow}, "", "A") })
	}
	group.Wait()
	if most.Load() > 2 {
		t.Errorf("%d hashes were computed at a time, want at most 2", most.Load())
	}
}

type verifierFunc func(string) bool

func (f verifierFunc) verify(password string) bool { return f(password) }

// Clients push many layers at once, and the first requests come before anything is remembered.
func TestSameCredentialsAtOnceShareAHash(t *testing.T) {
	f := newFixture(t, "alice:"+hashOf(t, "secret"))
	for range f.o.Hashing {
		f.hashing.Take("another")
	}
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			if _, err := f.Authenticate(attempt("alice", "secret", "A")); err != nil {
				t.Error(err)
			}
		})
	}
	for range f.o.Hashing {
		f.hashing.End()
	}
	group.Wait()
	f.hashes(1)
}

func TestLeavingClientDoesNotWait(t *testing.T) {
	f := newFixture(t, "alice:"+hashOf(t, "secret"))
	for range f.o.Hashing {
		f.hashing.Take("another")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := f.Authenticate(attempt("alice", "secret", "A").WithContext(ctx)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	for range f.o.Hashing {
		f.hashing.End()
	}
}

func TestReloadUnderLoad(t *testing.T) {
	states := []string{"alice:" + hashOf(t, "secret"), "alice:" + hashOf(t, "secret") + "\nbob:" + hashOf(t, "secret")}
	path := filepath.Join(t.TempDir(), "htpasswd")
	replace := func(content string) {
		if err := errors.Join(os.WriteFile(path+".new", []byte(content), 0o600), os.Rename(path+".new", path)); err != nil {
			t.Error(err)
		}
	}
	replace(states[0])
	f, err := Open(path, &Options{OnError: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 300 {
				if _, err := f.Authenticate(attempt("alice", "secret", "A")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 100 {
		replace(states[i%2])
		f.Refresh()
	}
	group.Wait()
}

func TestRememberedPasswordAllocatesNothing(t *testing.T) {
	f := newFixture(t, "alice:"+hashOf(t, "secret"))
	r := attempt("alice", "secret", "A")
	if n := testing.AllocsPerRun(200, func() { f.Authenticate(r) }); n >= 1 {
		t.Errorf("it allocates %v times", n)
	}
}

func BenchmarkRemembered(b *testing.B) {
	f := newFixture(b, "alice:"+hashOf(b, "secret"))
	f.o.now = time.Now
	r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
	r.SetBasicAuth("alice", "secret")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Authenticate(r); err != nil {
			b.Fatal(err)
		}
	}
}
