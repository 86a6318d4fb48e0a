package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"

	"berth/auth"
	"berth/registry/observe"
)

// streaming serves a stream at a socket, and returns a client of it.
func streaming(t *testing.T, s Stream) *Client {
	t.Helper()
	log := logrus.New()
	log.Out = io.Discard
	a, err := New(someone{}, auth.AllowAll{}, log, Route{"POST", "/v1/run", Administer, func(*Request) (any, error) { return s, nil }})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder(t), "socket")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: observe.Handler(a, observe.Options{}, log)}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return NewClient(path)
}

func TestLines(t *testing.T) {
	broken := errors.New("the secret of the disk")
	for name, test := range map[string]struct {
		lines int
		err   error
		want  string // of the error of the client
	}{
		"nothing":            {},
		"lines":              {lines: 3},
		"an error at once":   {err: Refused(errors.New("not now")), want: "not now"},
		"an error afterward": {lines: 2, err: Refused(errors.New("no more")), want: "no more"},
		"an internal one":    {lines: 1, err: broken, want: "internal error"},
	} {
		c := streaming(t, func(_ context.Context, send func(any) error) error {
			for i := range test.lines {
				if err := send(i); err != nil {
					t.Error(err)
				}
			}
			return test.err
		})
		got := 0
		err := c.Lines(t.Context(), "POST", "/v1/run", nil, func(line []byte) error {
			if string(line) != fmt.Sprint(got) {
				t.Errorf("%s: line %d is %s", name, got, line)
			}
			got++
			return nil
		})
		if got != test.lines || (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %d lines and %v", name, got, err)
		}
	}
}

// TestLinesEnd wants the route to be told when the client leaves, and the client when the server does.
func TestLinesEnd(t *testing.T) {
	left := make(chan struct{})
	c := streaming(t, func(ctx context.Context, send func(any) error) error {
		if err := send(1); err != nil {
			t.Error(err)
		}
		<-ctx.Done()
		close(left)
		return ctx.Err()
	})
	enough := errors.New("enough")
	if err := c.Lines(t.Context(), "POST", "/v1/run", nil, func([]byte) error { return enough }); !errors.Is(err, enough) {
		t.Error(err)
	}
	<-left
	cut := streaming(t, func(_ context.Context, send func(any) error) error {
		if err := send(1); err != nil {
			t.Error(err)
		}
		panic(http.ErrAbortHandler)
	})
	if err := cut.Lines(t.Context(), "POST", "/v1/run", nil, func([]byte) error { return nil }); err == nil {
		t.Error("a stream that was cut looks whole")
	}
}
