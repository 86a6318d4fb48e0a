package server

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A slowConn takes step bytes of each write and then lets its deadline pass; after some such writes it takes nothing.
type slowConn struct {
	net.Conn
	step    int
	stalls  int // after so many writes
	writes  int
	got     bytes.Buffer
	swallow int // bytes that ReadFrom takes from its source beyond those it sends
}

func (c *slowConn) SetWriteDeadline(time.Time) error { return nil }

func (c *slowConn) Write(p []byte) (int, error) {
	if c.writes++; c.writes > c.stalls {
		return 0, os.ErrDeadlineExceeded
	}
	n := min(c.step, len(p))
	c.got.Write(p[:n])
	if n < len(p) {
		return n, os.ErrDeadlineExceeded
	}
	return n, nil
}

func (c *slowConn) ReadFrom(r io.Reader) (int64, error) {
	if c.writes++; c.writes > c.stalls {
		return 0, os.ErrDeadlineExceeded
	}
	n, err := io.CopyN(&c.got, r, int64(c.step))
	if err == io.EOF {
		return n, nil
	}
	io.CopyN(io.Discard, r, int64(c.swallow))
	return n, os.ErrDeadlineExceeded
}

func TestWriteGoesOnWhileBytesMove(t *testing.T) {
	const text = "0123456789"
	for _, test := range []struct {
		name    string
		inner   *slowConn
		want    string
		failing bool
	}{
		{"slow", &slowConn{step: 3, stalls: 99}, text, false},
		{"stalled", &slowConn{step: 3, stalls: 2}, text[:6], true},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := &conn{Conn: test.inner, timeout: time.Hour}
			n, err := c.Write([]byte(text))
			if n != len(test.want) || test.inner.got.String() != test.want || errors.Is(err, os.ErrDeadlineExceeded) != test.failing {
				t.Errorf("wrote %d, %v: %q", n, err, &test.inner.got)
			}
			test.inner.got.Reset()
			test.inner.writes = 0
			sum, err := c.ReadFrom(&io.LimitedReader{R: strings.NewReader(text), N: int64(len(text))})
			if sum != int64(len(test.want)) || test.inner.got.String() != test.want || errors.Is(err, os.ErrDeadlineExceeded) != test.failing {
				t.Errorf("read from %d, %v: %q", sum, err, &test.inner.got)
			}
		})
	}
}

// TestReadFromLosesNothing has a connection that took more from the source than it sent: going on would leave a hole.
func TestReadFromLosesNothing(t *testing.T) {
	inner := &slowConn{step: 3, stalls: 99, swallow: 1}
	c := &conn{Conn: inner, timeout: time.Hour}
	n, err := c.ReadFrom(&io.LimitedReader{R: strings.NewReader("0123456789"), N: 10})
	if n != 3 || !errors.Is(err, os.ErrDeadlineExceeded) || inner.got.String() != "012" {
		t.Errorf("read from %d, %v: %q", n, err, &inner.got)
	}
}

// A watchedListener makes connections that tell what their ReadFrom was given.
type watchedListener struct {
	net.Listener
	sources chan any
}

func (l watchedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return watchedConn{c.(*net.TCPConn), l.sources}, nil
}

type watchedConn struct {
	*net.TCPConn
	sources chan any
}

func (c watchedConn) ReadFrom(r io.Reader) (int64, error) {
	if limited, ok := r.(*io.LimitedReader); ok {
		c.sources <- limited.R
	} else {
		c.sources <- r
	}
	return c.TCPConn.ReadFrom(r)
}

// TestSendfile serves a file through everything that stands between a handler and the socket: the socket gets the file.
func TestSendfile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "blob")
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	sources := make(chan any, 10)
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, err := os.Open(path)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		http.ServeContent(w, r, "", time.Time{}, f)
	}), Options{}, func(l net.Listener) net.Listener { return watchedListener{l, sources} })
	response, err := http.Get(s.url + "/v2/")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if source := <-sources; !isFile(source) {
		t.Errorf("the socket was given a %T", source)
	}
	s.signals <- os.Interrupt
	s.wantStopped()
}

func isFile(source any) bool { _, ok := source.(*os.File); return ok }

// TestStalledDownload has a client that reads nothing: its handler must not be held for ever.
func TestStalledDownload(t *testing.T) {
	ended := make(chan error, 1)
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		var err error
		for block := make([]byte, 1<<20); err == nil; {
			_, err = w.Write(block)
		}
		ended <- err
	}), Options{ProgressTimeout: 50 * time.Millisecond}, nil)
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the write ended with %v", err)
	}
	s.signals <- os.Interrupt
	s.wantStopped()
}

// TestStalledUpload has a client that stops in the middle of a body.
func TestStalledUpload(t *testing.T) {
	ended := make(chan error, 1)
	s := start(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		ended <- err
	}), Options{ProgressTimeout: 50 * time.Millisecond}, nil)
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "PUT /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello")
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the read ended with %v", err)
	}
	s.signals <- os.Interrupt
	s.wantStopped()
}

// A deadlines records the read deadlines that are set.
type deadlines struct {
	*httptest.ResponseRecorder
	mu  sync.Mutex
	set []time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.set = append(d.set, t)
	return nil
}

// TestBodyDeadlineEnds checks that the read deadline is gone when the body was read: it would end the request later.
func TestBodyDeadlineEnds(t *testing.T) {
	w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	h := progressing(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err != nil || string(body) != "hello" {
			t.Errorf("read %q, %v", body, err)
		}
	}), time.Hour)
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPut, "/", strings.NewReader("hello")))
	if len(w.set) < 2 || w.set[0].IsZero() || !w.set[len(w.set)-1].IsZero() {
		t.Errorf("the deadlines set were %v", w.set)
	}
}
