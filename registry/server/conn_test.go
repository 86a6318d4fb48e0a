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
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// A slowConn takes step bytes of each write and then lets its deadline pass; after some such writes it takes nothing.
type slowConn struct {
	net.Conn
	step     int
	stalls   int // after so many writes
	writes   int
	deadline time.Time
	got      bytes.Buffer
	swallow  int // bytes that ReadFrom takes from its source beyond those it sends
}

func (c *slowConn) SetWriteDeadline(t time.Time) error {
	c.deadline = t
	return nil
}

// expire is how a write ends whose deadline passes.
func (c *slowConn) expire(n int) (int, error) {
	time.Sleep(time.Until(c.deadline))
	return n, os.ErrDeadlineExceeded
}

func (c *slowConn) Write(p []byte) (int, error) {
	if c.writes++; c.writes > c.stalls {
		return c.expire(0)
	}
	n := min(c.step, len(p))
	c.got.Write(p[:n])
	if n < len(p) {
		return c.expire(n)
	}
	return n, nil
}

func (c *slowConn) ReadFrom(r io.Reader) (int64, error) {
	if c.writes++; c.writes > c.stalls {
		_, err := c.expire(0)
		return 0, err
	}
	n, err := io.CopyN(&c.got, r, int64(c.step))
	if err == io.EOF {
		return n, nil
	}
	io.CopyN(io.Discard, r, int64(c.swallow))
	_, err = c.expire(0)
	return n, err
}

// TestWriteGoesOnWhileBytesMove writes to a connection that takes a little in each quarter of the timeout, and to one
// that takes nothing more after a while: that one is given up after the timeout, and not long after.
func TestWriteGoesOnWhileBytesMove(t *testing.T) {
	const text = "0123456789"
	const timeout = time.Minute
	for _, test := range []struct {
		name   string
		inner  *slowConn
		want   string
		stalls time.Duration // how long all takes, if it fails
	}{
		{"slow", &slowConn{step: 1, stalls: 99}, text, 0},
		{"stalled", &slowConn{step: 3, stalls: 2}, text[:6], 2*timeout/4 + timeout},
		{"stalled from the beginning", &slowConn{step: 3, stalls: 0}, "", timeout},
	} {
		for way, write := range map[string]func(c *conn) (int64, error){
			"Write": func(c *conn) (int64, error) {
				n, err := c.Write([]byte(text))
				return int64(n), err
			},
			"ReadFrom": func(c *conn) (int64, error) {
				return c.ReadFrom(&io.LimitedReader{R: likeFile{Reader: strings.NewReader(text)}, N: int64(len(text))})
			},
		} {
			synctest.Test(t, func(t *testing.T) {
				inner := *test.inner
				c := &conn{Conn: &inner, timeout: timeout}
				begun := time.Now()
				n, err := write(c)
				if n != int64(len(test.want)) || inner.got.String() != test.want || errors.Is(err, os.ErrDeadlineExceeded) != (test.stalls > 0) {
					t.Errorf("%s of a connection that is %s: wrote %d, %v: %q", way, test.name, n, err, &inner.got)
				}
				if took := time.Since(begun); test.stalls > 0 && took != test.stalls {
					t.Errorf("%s of a connection that is %s was given up after %v, want %v", way, test.name, took, test.stalls)
				}
			})
		}
	}
}

// likeFile is what the kernel can send.
type likeFile struct {
	io.Reader
	syscall.Conn
}

// A copyingConn takes a second for each write. Like a TCP connection it copies what is no file through a buffer.
type copyingConn struct {
	net.Conn
	deadline time.Time
	got      bytes.Buffer
}

func (c *copyingConn) SetWriteDeadline(t time.Time) error {
	c.deadline = t
	return nil
}

func (c *copyingConn) Write(p []byte) (int, error) {
	if time.Sleep(time.Second); time.Now().After(c.deadline) {
		return 0, os.ErrDeadlineExceeded
	}
	return c.got.Write(p)
}

func (c *copyingConn) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{c}, r)
}

// TestLongDownload sends what is no file, such as a blob out of a bucket, for much longer than the timeout.
func TestLongDownload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const bytes = 200
		inner := &copyingConn{}
		c := &conn{Conn: inner, timeout: time.Minute}
		source := iotest.OneByteReader(strings.NewReader(strings.Repeat("x", bytes)))
		n, err := c.ReadFrom(&io.LimitedReader{R: source, N: bytes})
		if n != bytes || err != nil || inner.got.Len() != bytes {
			t.Errorf("wrote %d, %v: %d arrived", n, err, inner.got.Len())
		}
	})
}

// TestReadFromLosesNothing has a connection that took more from the source than it sent: going on would leave a hole.
func TestReadFromLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &slowConn{step: 3, stalls: 99, swallow: 1}
		c := &conn{Conn: inner, timeout: time.Hour}
		n, err := c.ReadFrom(&io.LimitedReader{R: likeFile{Reader: strings.NewReader("0123456789")}, N: 10})
		if n != 3 || !errors.Is(err, os.ErrDeadlineExceeded) || inner.got.String() != "012" {
			t.Errorf("read from %d, %v: %q", n, err, &inner.got)
		}
	})
}

// TestAcknowledged counts what the other side took, which is less than what the kernel took.
func TestAcknowledged(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	before := acknowledged(server)
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED, NOTHING WAS SHOWN: what was acknowledged is known on Linux alone")
	}
	if _, err := server.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(client, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); acknowledged(server) != before+5; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes are acknowledged, want 5", acknowledged(server)-before)
		}
	}
	if got := acknowledged(&slowConn{}); got != 0 {
		t.Errorf("a connection that is none of the system has %d bytes acknowledged", got)
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
