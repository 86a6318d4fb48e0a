package connection

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// A pipes is a listener whose connections are pipes, which do what they do in no time.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error   { close(l.closed); return nil }
func (l *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

func (l *pipes) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	l.conns <- server
	return client, nil
}

// overHTTP2 has a client ask a handler, with a body, whose streams must make progress.
func overHTTP2(t *testing.T, handle http.HandlerFunc, body io.Reader) *http.Response {
	t.Helper()
	l := &pipes{make(chan net.Conn), make(chan struct{})}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	served := make(chan struct{})
	handler := Restoring(Streaming(Progressing(handle, time.Minute), time.Minute))
	s := &http.Server{Protocols: protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(served)
		handler.ServeHTTP(w, r)
	})}
	go s.Serve(l)
	transport := &http.Transport{DialContext: l.dial, Protocols: protocols}
	t.Cleanup(func() { s.Close(); transport.CloseIdleConnections(); <-served })
	r, err := http.NewRequest(http.MethodPut, "http://reg.test/", body)
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

// TestServerPauses has a server that does something else for long, between its reads and between its writes: a client that is not
// what is waited for is not cut off.
func TestServerPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const part, pause = 3 << 20, 5 * time.Minute
		sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<19) // more than either side takes ahead
		response := overHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
			var got bytes.Buffer
			var err error
			for ; err == nil; time.Sleep(pause) {
				_, err = io.CopyN(&got, r.Body, part)
			}
			if err != io.EOF {
				t.Errorf("after %d bytes: %v", got.Len(), err)
			}
			for err = nil; err == nil && got.Len() > 0; time.Sleep(pause) {
				_, err = w.Write(got.Next(part))
			}
			if err != nil {
				t.Errorf("%d bytes before the end: %v", got.Len(), err)
			}
		}, bytes.NewReader(sent))
		if got, err := io.ReadAll(response.Body); err != nil || !bytes.Equal(got, sent) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
	})
}

// TestClientStalls has clients that send nothing more, or take nothing more, in the middle and at the end, after the server has
// paused: they are cut off after the timeout.
func TestClientStalls(t *testing.T) {
	const takenAhead = 4 << 20 // by the client of net/http
	write := func(bytes int) func(http.ResponseWriter, *http.Request) error {
		return func(w http.ResponseWriter, _ *http.Request) error {
			_, err := w.Write(make([]byte, bytes))
			return err
		}
	}
	for name, test := range map[string]struct {
		serve func(http.ResponseWriter, *http.Request) error
		takes time.Duration // the last call of the handler, which then fails
		fails error
	}{
		"sending": {func(_ http.ResponseWriter, r *http.Request) error {
			_, err := io.Copy(io.Discard, r.Body)
			return err
		}, time.Minute, os.ErrDeadlineExceeded},
		"taking":                       {write(takenAhead + 64<<10), time.Minute, nil},
		"taking what the handler left": {write(takenAhead + 1), 0, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			body, more := io.Pipe()
			defer more.Close()
			go more.Write([]byte("hello"))
			response := overHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
				if _, err := io.ReadFull(r.Body, make([]byte, 5)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				w.WriteHeader(http.StatusOK)
				http.NewResponseController(w).Flush()
				time.Sleep(5 * time.Minute)
				begun := time.Now()
				err := test.serve(w, r)
				if took := time.Since(begun); took != test.takes || (err != nil) != (took > 0) || !errors.Is(err, test.fails) && test.fails != nil {
					t.Errorf("%s ended after %v with %v", name, took, err)
				}
			}, body)
			time.Sleep(10 * time.Minute)
			if n, err := io.Copy(io.Discard, response.Body); test.fails == nil && err == nil {
				t.Errorf("%s: the client got %d bytes, and no error", name, n)
			}
		})
	}
}

// TestNothingStalls has calls that just end in time, timers that come late, and a call that is still under way when the handler has
// returned: nothing is cut.
func TestNothingStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stall{timeout: time.Minute, cut: func() { t.Error("it was cut") }}
		for range 5 {
			s.begin()
			s.look() // that of the call before, late
			time.Sleep(s.timeout - 1)
			s.end()
		}
		s.begin()
		s.stop()
		time.Sleep(5 * time.Minute)
		s.end()
	})
}
