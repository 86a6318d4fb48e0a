package connection

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
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

// TestOuterDeadline: a write deadline of the connection's user, as of a handshake, is not extended; afterwards the
// connection's own is there at once.
func TestOuterDeadline(t *testing.T) {
	server, client := net.Pipe()
	defer client.Close()
	c := &conn{Conn: server, timeout: 5 * time.Second} // long beside the deadline set, short beside a hanging test
	if err := c.SetWriteDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the write ended with %v", err)
	}
	c.timeout = 10 * time.Millisecond
	if err := c.SetWriteDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the write after it ended with %v", err)
	}
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
	h := Progressing(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err != nil || string(body) != "hello" {
			t.Errorf("read %q, %v", body, err)
		}
	}), time.Hour)
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPut, "/", strings.NewReader("hello")))
	if len(w.set) < 2 || w.set[0].IsZero() || !w.set[len(w.set)-1].IsZero() {
		t.Errorf("the deadlines set were %v", w.set)
	}
}
