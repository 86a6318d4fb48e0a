package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"berth/registry/health"
)

func quietLog() *logrus.Logger {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return l
}

// A started is a server that runs on a port of its own, under a supervisor.
type started struct {
	t       *testing.T
	url     string
	addr    string
	signals chan os.Signal
	done    chan error
	told    *net.UnixConn
	server  *Server
}

// start runs a server; it has told its supervisor that it is ready when start returns.
func start(t *testing.T, api http.Handler, o Options, wrap func(net.Listener) net.Listener) *started {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	told, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { told.Close() })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if wrap != nil {
		l = wrap(l)
	}
	o.Log = quietLog()
	s := New(api, o)
	s.supervisor = supervisor{func(name string) string { return map[string]string{"NOTIFY_SOCKET": path}[name] }}
	r := &started{t: t, url: "http://" + addr, addr: addr, signals: make(chan os.Signal, 2), done: make(chan error, 1), told: told, server: s}
	go func() { r.done <- s.Run(context.Background(), []net.Listener{l}, r.signals) }()
	r.wantTold("READY=1")
	return r
}

func (s *started) wantTold(want string) {
	s.t.Helper()
	buf := make([]byte, 100)
	if err := s.told.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	n, err := s.told.Read(buf)
	if err != nil || string(buf[:n]) != want {
		s.t.Fatalf("the supervisor was told %q, %v; want %q", buf[:n], err, want)
	}
}

func (s *started) wantStopped() {
	s.t.Helper()
	select {
	case err := <-s.done:
		if err != nil {
			s.t.Errorf("Run returned %v", err)
		}
	case <-time.After(10 * time.Second):
		s.t.Fatal("the server did not stop")
	}
}

// begin sends a request and returns when its handler runs.
func (s *started) begin(entered <-chan struct{}) <-chan error {
	answered := make(chan error, 1)
	go func() {
		response, err := http.Get(s.url + "/v2/")
		if err == nil {
			defer response.Body.Close()
			if _, err = io.Copy(io.Discard, response.Body); err == nil && response.StatusCode != http.StatusOK {
				err = errors.New(response.Status)
			}
		}
		answered <- err
	}()
	<-entered
	return answered
}

func TestDrain(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s := start(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(entered); <-release }), Options{DrainTimeout: time.Minute}, nil)
	answered := s.begin(entered)
	s.signals <- syscall.SIGTERM
	s.wantTold("STOPPING=1")
	answer := httptest.NewRecorder()
	s.server.ready(answer, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	if answer.Code != http.StatusServiceUnavailable || !strings.Contains(answer.Body.String(), "stopping") {
		t.Errorf("while stopping, readiness is %d %s", answer.Code, answer.Body)
	}
	for { // the listener is closed a moment after the supervisor was told
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			break
		}
		c.Close()
	}
	close(release)
	if err := <-answered; err != nil {
		t.Errorf("the request that ran was not answered: %v", err)
	}
	s.wantStopped()
}

// TestDrainDelay goes on taking connections after the signal, for as long as whoever sends them takes to notice.
func TestDrainDelay(t *testing.T) {
	const delay = 300 * time.Millisecond
	s := start(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), Options{DrainDelay: delay, DrainTimeout: time.Minute}, nil)
	began := time.Now()
	s.signals <- syscall.SIGTERM
	s.wantTold("STOPPING=1")
	answer(t, say(t, s.addr, "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), http.StatusServiceUnavailable)
	answer(t, say(t, s.addr, "GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), http.StatusOK)
	s.wantStopped()
	if took := time.Since(began); took < delay {
		t.Errorf("it stopped after %v", took)
	}

	hurried := start(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), Options{DrainDelay: time.Hour}, nil)
	hurried.signals <- syscall.SIGTERM
	hurried.wantTold("STOPPING=1")
	hurried.signals <- syscall.SIGTERM
	hurried.wantStopped()
}

func TestCut(t *testing.T) {
	for name, test := range map[string]struct {
		timeout time.Duration
		signals []os.Signal
	}{
		"by a second signal":   {time.Hour, []os.Signal{syscall.SIGTERM, os.Interrupt}},
		"by the drain timeout": {10 * time.Millisecond, []os.Signal{os.Interrupt}},
		"at once":              {0, []os.Signal{os.Interrupt}},
	} {
		t.Run(name, func(t *testing.T) {
			entered := make(chan struct{})
			s := start(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { close(entered); <-r.Context().Done() }),
				Options{DrainTimeout: test.timeout}, nil)
			answered := s.begin(entered)
			for _, sig := range test.signals {
				s.signals <- sig
			}
			s.wantTold("STOPPING=1")
			s.wantStopped()
			if err := <-answered; err == nil {
				t.Error("the request that was cut was answered")
			}
		})
	}
}

func TestBackgroundEnds(t *testing.T) {
	began := make(chan struct{})
	ended := false
	s := start(t, http.NotFoundHandler(), Options{Background: []func(context.Context){func(ctx context.Context) {
		close(began)
		<-ctx.Done()
		ended = true
	}}}, nil)
	<-began
	s.signals <- os.Interrupt
	s.wantStopped()
	if !ended {
		t.Error("the server stopped before its background task")
	}
}

func TestServeFails(t *testing.T) {
	s := start(t, http.NotFoundHandler(), Options{}, func(l net.Listener) net.Listener { return brokenListener{l} })
	if err := <-s.done; err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("Run returned %v", err)
	}
}

type brokenListener struct{ net.Listener }

func (brokenListener) Accept() (net.Conn, error) { return nil, errors.New("broken") }

func TestRoutes(t *testing.T) {
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "api "+r.URL.EscapedPath()) })
	for _, test := range []struct {
		prefix, path string
		status       int
		body         string
	}{
		{"/", "/", 200, ""},
		{"/", "/healthz", 200, ""},
		{"/", "/readyz", 200, `{"ready":true,"writable":true,"reasons":[]}` + "\n"},
		{"/", "/v2/", 200, "api /v2/"},
		{"/", "/v2", 200, "api /v2"},
		{"/", "/v2/a//../b", 200, "api /v2/a//../b"},
		{"/", "/v2/a%2Fb/x", 200, "api /v2/a%2Fb/x"},
		{"/", "/v2x", 404, ""},
		{"/", "/other", 404, ""},
		{"/x/", "/x/v2/", 200, "api /x/v2/"},
		{"/x/", "/v2/", 404, ""},
	} {
		s := New(api, Options{Prefix: test.prefix, Log: quietLog()})
		answer := httptest.NewRecorder()
		s.http.Handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, test.path, nil))
		if answer.Code != test.status || test.status == 200 && answer.Body.String() != test.body {
			t.Errorf("%s below %s: answered %d %q", test.path, test.prefix, answer.Code, answer.Body)
		}
		if isHealth := test.path == "/" || test.path == "/healthz"; isHealth && answer.Header().Get("Cache-Control") != "no-cache" {
			t.Errorf("%s can be cached: %v", test.path, answer.Header())
		}
	}
}

// TestOutOfService has a check of the operator's fail: requests are refused, also with a body that nobody reads, and the probes
// tell it as they should.
func TestOutOfService(t *testing.T) {
	monitor := health.New(quietLog(), nil)
	monitor.Add(health.Check{Name: "secret-host", Effect: health.Service, Run: func(context.Context) error { return errors.New("down") },
		Reason: func(error) string { return "it is down" }})
	s := start(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), Options{Health: monitor}, nil)
	eventually(t, "the check has failed", func() bool { return monitor.MayServe() != nil })
	c := say(t, s.addr, "PUT /v2/a/manifests/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
	refused := answer(t, c, http.StatusServiceUnavailable)
	body, _ := io.ReadAll(refused.Body)
	if !strings.Contains(string(body), `"UNAVAILABLE"`) || strings.Contains(string(body), "secret") || refused.Header.Get("Retry-After") == "" {
		t.Errorf("refused with %v %s", refused.Header, body)
	}
	ready := answer(t, say(t, s.addr, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"), http.StatusServiceUnavailable)
	if body, _ := io.ReadAll(ready.Body); string(body) != `{"ready":false,"writable":false,"reasons":["it is down"]}`+"\n" {
		t.Errorf("/readyz answers %s", body)
	}
	for _, path := range []string{"/", "/healthz"} {
		answer(t, say(t, s.addr, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"), http.StatusOK)
	}
}

func TestInherited(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := syscall.Dup(int(f.Fd())) // inherited closes what it takes
	if err != nil {
		t.Fatal(err)
	}
	env := func(pid, fds string) func(string) string {
		return func(name string) string { return map[string]string{"LISTEN_PID": pid, "LISTEN_FDS": fds}[name] }
	}
	got, err := inherited(env("7", "1"), 7, fd)
	if err != nil || len(got) != 1 || got[0].Addr().String() != l.Addr().String() {
		t.Fatalf("took %v, %v", got, err)
	}
	got[0].Close()
	if got, err := inherited(env("8", "1"), 7, fd); got != nil || err != nil {
		t.Errorf("took sockets of another process: %v, %v", got, err)
	}
	if _, err := inherited(env("7", "x"), 7, fd); err == nil {
		t.Error("an odd LISTEN_FDS is no error")
	}
	if _, err := inherited(env("7", "1"), 7, 1<<20); err == nil {
		t.Error("a socket that is not there is no error")
	}
}

func TestListen(t *testing.T) {
	if _, err := Listen("tcp", "0.0.0.0:0", false); err == nil || !strings.Contains(err.Error(), "127.0.0.1") || !strings.Contains(err.Error(), "auth: none") {
		t.Errorf("a public address without authentication: %v", err)
	}
	for _, test := range []struct {
		addr string
		open bool
	}{{"127.0.0.1:0", false}, {"localhost:0", false}, {"0.0.0.0:0", true}} {
		l, err := Listen("tcp", test.addr, test.open)
		if err != nil {
			t.Errorf("%s: %v", test.addr, err)
			continue
		}
		l[0].Close()
	}
}

func TestListenUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	l, err := Listen("unix", path, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("unix", path, false); err == nil {
		t.Error("a socket that another process serves was taken")
	}
	l[0].(*net.UnixListener).SetUnlinkOnClose(false)
	l[0].Close()
	l, err = Listen("unix", path, false)
	if err != nil {
		t.Fatalf("over a stale socket: %v", err)
	}
	l[0].Close()
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("unix", path, false); err == nil {
		t.Error("a file was replaced by a socket")
	}
}

func TestWatchdog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	told, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer told.Close()
	env := map[string]string{"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "2000", "WATCHDOG_PID": strconv.Itoa(os.Getpid())}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { supervisor{func(name string) string { return env[name] }}.watchdog(ctx) })
	buf := make([]byte, 100)
	for range 3 {
		if n, err := told.Read(buf); err != nil || string(buf[:n]) != "WATCHDOG=1" {
			t.Errorf("told %q, %v", buf[:n], err)
		}
	}
	cancel()
	running.Wait()
	env["WATCHDOG_PID"] = "1"
	supervisor{func(name string) string { return env[name] }}.watchdog(t.Context()) // not for us: it returns
}

func TestEvery(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	every(ctx, time.Millisecond, func() {
		if calls++; calls == 3 {
			cancel()
		}
	})
	if calls != 3 {
		t.Errorf("called %d times", calls)
	}
}

func TestLogger(t *testing.T) {
	for formatter, want := range map[string]string{
		"text": "msg=hi a=b go.version=go1", "json": `"level":"warning","msg":"hi","time":"20`, "logstash": `"message":"hi"`,
	} {
		var out bytes.Buffer
		l, err := NewLogger(&out, LogOptions{Level: "warn", Formatter: formatter, Instance: "x-y", Version: "1", Fields: map[string]string{"a": "b", "version": "mine"}})
		if err != nil {
			t.Fatal(err)
		}
		l.Info("not this")
		l.Warn("hi")
		if got := out.String(); !strings.Contains(got, want) || strings.Contains(got, "not this") || strings.Contains(got, "@version") != (formatter == "logstash") {
			t.Errorf("%s writes %q, want %q", formatter, got, want)
		}
		if got := out.String(); !strings.Contains(got, "x-y") || !strings.Contains(got, "instance.id") || !strings.Contains(got, "mine") {
			t.Errorf("%s writes %q", formatter, got)
		}
	}
	for _, o := range []LogOptions{{Level: "loud", Formatter: "text"}, {Level: "info", Formatter: "xml"}} {
		if _, err := NewLogger(io.Discard, o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}
