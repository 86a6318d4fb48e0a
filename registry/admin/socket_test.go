package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/sirupsen/logrus"

	"berth/auth"
	"berth/registry/observe"
)

// folder returns a short folder, which the path of a socket has to be in.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "berth")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// serve serves who-am-i on a socket until the test ends or stop is called.
func serve(t *testing.T, path string) (s *Socket, stop func()) {
	t.Helper()
	s, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	log := logrus.New()
	a, err := New(Peers{}, auth.AllowAll{}, log, Route{"GET", "/v1/me", Administer, func(r *Request) (any, error) { return r.Subject.Name, nil }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		s.Serve(ctx, observe.Handler(a, observe.Options{}, log), log)
		close(done)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return s, stop
}

func ask(t *testing.T, path string) (string, error) {
	t.Helper()
	var me string
	err := NewClient(path).Do(t.Context(), "GET", "/v1/me", nil, &me)
	return me, err
}

func TestSocket(t *testing.T) {
	dir := filepath.Join(folder(t), "new")
	path := filepath.Join(dir, "socket")
	_, stop := serve(t, path)
	for path, want := range map[string]fs.FileMode{dir: fs.ModeDir | 0o700, path: fs.ModeSocket | 0o600, path + ".lock": 0o600} {
		if info, err := os.Lstat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
	if me, err := ask(t, path); err != nil || me != fmt.Sprint("uid:", os.Geteuid()) {
		t.Errorf("asked: %q, %v", me, err)
	}
	var running sync.WaitGroup
	for range 32 {
		running.Go(func() {
			if _, err := ask(t, path); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	stop()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket stays: %v", err)
	}
	var nobody *NobodyError
	if _, err := ask(t, path); !errors.As(err, &nobody) || !strings.Contains(err.Error(), "there is no socket "+path) {
		t.Errorf("nobody there: %v", err)
	}
}

// TestMain is a client of another user when it is told to be.
func TestMain(m *testing.M) {
	if path := os.Getenv("BERTH_TEST_SOCKET"); path != "" {
		var me string
		err := NewClient(path).Do(context.Background(), "GET", "/v1/me", nil, &me)
		fmt.Println(me, err)
		return
	}
	os.Exit(m.Run())
}

// asOther asks the socket as another user, in a process of its own, and returns what came of it.
func asOther(t *testing.T, path string) string {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(folder(t), "client")
	if err := errors.Join(os.Chmod(filepath.Dir(program), 0o755), os.WriteFile(program, self, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = []string{"BERTH_TEST_SOCKET=" + path}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// TestOtherUser: the permissions keep another user out, and where somebody changed them, the server does.
func TestOtherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user")
	}
	dir := folder(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "socket")
	serve(t, path)
	if got := asOther(t, path); !strings.Contains(got, "can be opened by the user that the server runs as and by root") {
		t.Errorf("with the permissions: %s", got)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if got := asOther(t, path); !strings.Contains(got, "access denied: only root and the user number 0 may, not 65534") {
		t.Errorf("without them: %s", got)
	}
}

func TestStaleSocket(t *testing.T) {
	path := filepath.Join(folder(t), "socket")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if _, err := Listen(path); !errors.Is(err, errInUse) {
		t.Errorf("a program that knows no lock listens: %v", err)
	}
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(t, path); err == nil || !strings.Contains(err.Error(), "is gone") {
		t.Errorf("the server is gone: %v", err)
	}
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path + "~", Net: "unix"}) // of one that was killed while it started
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	left.Close()
	serve(t, path)
	if _, err := ask(t, path); err != nil {
		t.Error(err)
	}
}

// TestTwoServers: of many that start at once over a stale socket one gets it, and the others leave it alone.
func TestTwoServers(t *testing.T) {
	path := filepath.Join(folder(t), "socket")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	var running sync.WaitGroup
	won := make(chan *Socket, 16)
	for range cap(won) {
		running.Go(func() {
			s, err := Listen(path)
			if err == nil {
				won <- s
			} else if !errors.Is(err, errInUse) || !strings.Contains(err.Error(), path) {
				t.Error(err)
			}
		})
	}
	running.Wait()
	if len(won) != 1 {
		t.Fatalf("%d servers have the socket", len(won))
	}
	if err := (<-won).Close(); err != nil {
		t.Fatal(err)
	}
	_, stop := serve(t, path)
	stop()
	serve(t, path)
	if _, err := ask(t, path); err != nil {
		t.Error(err)
	}
}

// TestCloseLeavesAnothers: a socket that was removed and made anew by somebody else is not removed.
func TestCloseLeavesAnothers(t *testing.T) {
	path := filepath.Join(folder(t), "socket")
	s, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("unix", path+".other")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := os.Rename(path+".other", path); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the socket of somebody else: %v", err)
	}
}

func TestBadPlaces(t *testing.T) {
	dir := folder(t)
	writable, foreign, link := filepath.Join(dir, "writable"), filepath.Join(dir, "foreign"), filepath.Join(dir, "link")
	for _, d := range []string{writable, foreign, filepath.Join(dir, "linked")} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chmod(writable, 0o777|fs.ModeSticky), os.Symlink("elsewhere", filepath.Join(dir, "linked", "socket.lock")),
		os.WriteFile(link, nil, 0o600), os.WriteFile(filepath.Join(dir, "file"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(writable, "socket"):      "others can write to the folder",
		filepath.Join(dir, "linked", "socket"): "too many levels",
		filepath.Join(dir, "file"):             "something else than a socket",
		filepath.Join(link, "socket"):          "is not a folder",
		filepath.Join(dir, "no/where/socket"):  "no such file",
		"/var/tmp/" + strings.Repeat("x", 100): "systems take no more than 102",
	} {
		if s, err := Listen(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v, want %q", path, s, err, want)
		}
	}
	if os.Geteuid() != 0 {
		return // only root can give a folder away
	}
	if err := os.Chown(foreign, 65534, -1); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(filepath.Join(foreign, "socket")); err == nil || !strings.Contains(err.Error(), "belongs to the user number 65534") {
		t.Errorf("the folder of somebody else: %v", err)
	}
}

// TestPeersElsewhere: a request that came another way than through a socket is nobody's.
func TestPeersElsewhere(t *testing.T) {
	r, err := http.NewRequest("GET", "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := (Peers{}).Authenticate(r); !errors.Is(err, auth.ErrDenied) {
		t.Errorf("%v, %v", s, err)
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if s, err := (Peers{}).Authenticate(r.WithContext(withPeer(t.Context(), a))); err == nil {
		t.Errorf("%v from a pipe", s)
	}
}
