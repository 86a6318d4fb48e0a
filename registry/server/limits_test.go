package server

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"berth/auth"
	"berth/metrics"
	"berth/registry"
	"berth/registry/api"
	"berth/registry/gate"
	"berth/registry/server/connection"
	"berth/storage/memory"
)

// limited returns the API over a registry in memory, behind a gate.
func limited(t *testing.T, g *gate.Gate) http.Handler {
	t.Helper()
	reg, err := registry.Open(t.Context(), memory.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	h, err := api.New(reg, auth.Anonymous{}, auth.AllowAll{}, &api.Options{Gate: g})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// oneOf returns limits that let one request of a class run, with a queue of so many.
func oneOf(class gate.Class, queue int) (l gate.Limits) {
	l.Queues[class] = gate.Queue{MaxRunning: 1, MaxInQueue: queue}
	return l
}

// hold takes the only slot of a class.
func hold(t *testing.T, g *gate.Gate, class gate.Class) *gate.Ticket {
	t.Helper()
	ticket, err := g.Admit(t.Context(), gate.Request{Class: class})
	if err != nil {
		t.Fatal(err)
	}
	return &ticket
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !so(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it is not so that %s", what)
		}
	}
}

// say opens a connection and sends something.
func say(t *testing.T, addr, text string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c
}

// answer reads an answer that must have a status.
func answer(t *testing.T, c net.Conn, status int) *http.Response {
	t.Helper()
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.StatusCode != status {
		t.Fatalf("answered %s, not %d", r.Status, status)
	}
	return r
}

// TestRefusedBeforeTheBody has clients that announce a body, however large, and send none of it: they are answered at once.
func TestRefusedBeforeTheBody(t *testing.T) {
	g := gate.New(oneOf(gate.Write, 0), nil)
	s := start(t, limited(t, g), Options{ProgressTimeout: time.Hour}, nil)
	defer hold(t, g, gate.Write).Leave()
	for _, header := range []string{"Content-Length: 5", "Content-Length: 1000", "Content-Length: 10000000", "Transfer-Encoding: chunked",
		"Content-Length: 1000\r\nExpect: 100-continue"} {
		c := say(t, s.addr, "PUT /v2/a/manifests/x HTTP/1.1\r\nHost: x\r\n"+header+"\r\n\r\n")
		r := answer(t, c, http.StatusTooManyRequests)
		body, _ := io.ReadAll(r.Body)
		if r.Header.Get("Retry-After") == "" || !bytes.Contains(body, []byte(`"TOOMANYREQUESTS"`)) {
			t.Errorf("%s: %v %s", header, r.Header, body)
		}
	}
}

// TestRefusalIsRead has clients that send all of a body before they read the answer: it must not be lost in a reset.
func TestRefusalIsRead(t *testing.T) {
	g := gate.New(oneOf(gate.Write, 0), nil)
	s := start(t, limited(t, g), Options{Metrics: metrics.New(metrics.Options{})}, nil)
	defer hold(t, g, gate.Write).Leave()
	for _, size := range []int{1 << 10, 200 << 10, 300 << 10} {
		c := say(t, s.addr, fmt.Sprintf("PUT /v2/a/manifests/x HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", size))
		answer(t, c, http.StatusTooManyRequests)
		for range 10 {
			if _, err := c.Write(make([]byte, size/20)); err != nil {
				t.Errorf("%d bytes: %v", size, err)
				break
			}
			time.Sleep(5 * time.Millisecond) // for a reset to arrive
		}
	}
}

// TestClientsThatLeave has clients that wait for their turn hang up, with and without a body of theirs being unread.
func TestClientsThatLeave(t *testing.T) {
	g := gate.New(oneOf(gate.Write, 10), nil)
	s := start(t, limited(t, g), Options{}, nil)
	ticket := hold(t, g, gate.Write)
	requests := []string{"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\n\r\n"} // the second also has a body, which nobody reads yet
	if runtime.GOOS == "linux" {
		requests = append(requests, "PUT /v2/a/manifests/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nbegun")
	}
	var clients []net.Conn
	for _, r := range requests {
		clients = append(clients, say(t, s.addr, r))
	}
	eventually(t, "all wait", func() bool { return g.Stats().Classes[gate.Write].Queued == len(requests) })
	for _, c := range clients {
		c.Close()
	}
	eventually(t, "all have left", func() bool { return g.Stats().Rejected[gate.ClientLeft] == uint64(len(requests)) })
	if n := g.Stats().Classes[gate.Write].Queued; n != 0 {
		t.Errorf("%d wait", n)
	}
	ticket.Leave()
	answer(t, say(t, s.addr, requests[0]), http.StatusAccepted)
}

// TestWaitsLongerThanBodiesMay has requests wait for longer than a body may stand still: waiting is not standing still.
func TestWaitsLongerThanBodiesMay(t *testing.T) {
	const stall = 500 * time.Millisecond
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprint("HTTP/", version), func(t *testing.T) {
			g := gate.New(oneOf(gate.Write, 1), nil)
			a := newAuthority(t)
			s, transport := startTLS(t, a, Options{TLS: openIssued(t, a, TLSOptions{}, pairFiles(t.TempDir(), "default")),
				ProgressTimeout: stall, HTTP1Only: version == 1}, limited(t, g))
			ticket := hold(t, g, gate.Write)
			time.AfterFunc(4*stall, ticket.Leave)
			content := []byte(strings.Repeat("x", 8<<20)) // more than HTTP/2 takes ahead
			d := registry.SHA256.FromBytes(content)
			r, err := (&http.Client{Transport: transport}).Post("https://"+s.addr+"/v2/a/blobs/uploads/?digest="+d.String(), "application/octet-stream",
				bytes.NewReader(content))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Body.Close()
			if r.StatusCode != http.StatusCreated || r.ProtoMajor != version {
				t.Errorf("answered %s by %s", r.Status, r.Proto)
			}
		})
	}
}

// idle counts the connections that are known to be idle: the client has its answer a moment before.
func idle(cs *connection.Set) int {
	_, n, _ := cs.Counts()
	return n
}

func waiting(cs *connection.Set) int {
	_, _, n := cs.Counts()
	return n
}

// TestConnectionsAreBounded opens more connections than there may be, idle and busy ones.
func TestConnectionsAreBounded(t *testing.T) {
	const get = "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"
	entered, proceed := make(chan struct{}, 10), make(chan struct{})
	api := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/slow" {
			entered <- struct{}{}
			<-proceed
		}
	})
	connections := connection.NewSet(2)
	s := start(t, api, Options{Connections: connections, DrainTimeout: time.Minute}, nil)
	oldest := say(t, s.addr, get)
	answer(t, oldest, http.StatusOK)
	eventually(t, "one connection is idle", func() bool { return idle(connections) == 1 })
	newer := say(t, s.addr, get)
	answer(t, newer, http.StatusOK)
	eventually(t, "two connections are idle", func() bool { return idle(connections) == 2 })
	answer(t, say(t, s.addr, get), http.StatusOK)
	if _, err := oldest.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the connection that was idle for longest got %v", err)
	}
	if _, err := io.WriteString(newer, get); err != nil {
		t.Error(err)
	}
	answer(t, newer, http.StatusOK)
	eventually(t, "both connections are idle", func() bool { return idle(connections) == 2 })

	busy := []net.Conn{say(t, s.addr, strings.Replace(get, "/v2/", "/v2/slow", 1)), say(t, s.addr, strings.Replace(get, "/v2/", "/v2/slow", 1))}
	<-entered
	<-entered
	late := say(t, s.addr, get)
	eventually(t, "a connection waits for a place", func() bool { return waiting(connections) == 1 })
	if n, _, _ := connections.Counts(); n != 2 {
		t.Errorf("%d connections are open", n)
	}
	proceed <- struct{}{}
	answer(t, late, http.StatusOK)
	proceed <- struct{}{}
	for _, c := range busy[:1] {
		c.Close()
	}

	connections.SetMax(1)
	say(t, s.addr, strings.Replace(get, "/v2/", "/v2/slow", 1))
	<-entered
	late = say(t, s.addr, get)
	eventually(t, "a connection waits again", func() bool { return waiting(connections) == 1 })
	connections.SetMax(0)
	answer(t, late, http.StatusOK)
	close(proceed)
}

// TestDrainWhileConnectionsWait stops a server whose listener is waiting for a place for a connection.
func TestDrainWhileConnectionsWait(t *testing.T) {
	entered, proceed := make(chan struct{}, 1), make(chan struct{})
	api := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		entered <- struct{}{}
		<-proceed
	})
	connections := connection.NewSet(1)
	s := start(t, api, Options{Connections: connections, DrainTimeout: time.Minute}, nil)
	const get = "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"
	busy := say(t, s.addr, get)
	<-entered
	say(t, s.addr, get)
	eventually(t, "a connection waits for a place", func() bool { return waiting(connections) == 1 })
	s.signals <- os.Interrupt
	eventually(t, "no connection waits", func() bool { return waiting(connections) == 0 })
	close(proceed)
	answer(t, busy, http.StatusOK)
	s.wantTold("STOPPING=1")
	s.wantStopped()
}
