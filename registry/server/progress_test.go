package server

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

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

// TestStalled has clients that read nothing, or stop in the middle of a body: their handlers must not be held for ever.
func TestStalled(t *testing.T) {
	for request, serve := range map[string]func(w io.Writer, body io.Reader) error{
		"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n": func(w io.Writer, _ io.Reader) (err error) {
			for block := make([]byte, 1<<20); err == nil; {
				_, err = w.Write(block)
			}
			return err
		},
		"PUT /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello": func(_ io.Writer, body io.Reader) error {
			_, err := io.Copy(io.Discard, body)
			return err
		},
	} {
		ended := make(chan error, 1)
		s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { ended <- serve(w, r.Body) }), Options{ProgressTimeout: 50 * time.Millisecond}, nil)
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, request)
		if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%.3s ended with %v", request, err)
		}
		s.signals <- os.Interrupt
		s.wantStopped()
	}
}
