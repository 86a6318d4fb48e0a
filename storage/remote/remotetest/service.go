package remotetest

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"berth/storage"
)

// An Answer is one of a service in memory.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Response is the answer to a request. To a HEAD it has the length that the header tells, and no body.
func (a Answer) Response(r *http.Request) *http.Response {
	length := int64(len(a.Body))
	if r.Method == http.MethodHead {
		length, _ = strconv.ParseInt(a.Header.Get("Content-Length"), 10, 64)
		a.Body = nil
	}
	return &http.Response{StatusCode: a.Status, Header: a.Header, Body: io.NopCloser(bytes.NewReader(a.Body)), ContentLength: length,
		Request: r, ProtoMajor: 1, ProtoMinor: 1}
}

// Body reads all of the body of a request, as services do before they answer one whose client has not broken off.
func Body(r *http.Request) (body []byte, err error) {
	if r.Body != nil {
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		_ = r.Body.Close()
	}
	return body, r.Context().Err()
}

// A Counter counts the requests of operations. Take returns those since it was last called.
type Counter struct {
	T    *testing.T
	Take func() []string
}

// Want performs an operation, which must take so many requests.
func (c Counter) Want(what string, want int, f func() error) {
	c.T.Helper()
	c.Take()
	if err := f(); err != nil {
		c.T.Errorf("%s: %v", what, err)
	}
	if requests := c.Take(); len(requests) != want {
		c.T.Errorf("%s takes %d requests, not %d: %q", what, len(requests), want, requests)
	}
}

// Calls asks that each operation of a driver be one request, but for an object of two parts, of a size in bytes each.
func (c Counter) Calls(d storage.Driver, part, twoParts int) {
	ctx := c.T.Context()
	var info storage.Info
	put := func(body string, cond storage.Cond) func() error {
		return func() (err error) {
			info, err = d.Put(ctx, "k", strings.NewReader(body), -1, cond)
			return err
		}
	}
	c.Want("a create", 1, put("1", storage.Absent()))
	c.Want("a put under a condition", 1, func() error { return put("2", storage.Match(info.Rev))() })
	c.Want("a put of a part", 1, put(strings.Repeat("x", part-1), storage.Cond{}))
	c.Want("a put of two parts", twoParts, put(strings.Repeat("x", part+1), storage.Cond{}))
	c.Want("a read", 1, func() error {
		r, _, err := d.Open(ctx, "k", 0, -1)
		if err == nil {
			_, err = io.Copy(io.Discard, r)
			_ = r.Close()
		}
		return err
	})
	c.Want("a look", 1, func() error {
		var err error
		info, err = d.Stat(ctx, "k")
		return err
	})
	c.Want("a deletion under a condition", 1, func() error { return d.Delete(ctx, "k", storage.Match(info.Rev)) })
	if err := put("1", storage.Cond{})(); err != nil {
		c.T.Error(err)
	}
	c.Want("a deletion", 1, func() error { return d.Delete(ctx, "k", storage.Cond{}) })
	c.Want("a listing", 1, func() error {
		for _, err := range d.List(ctx, "", "") {
			return err
		}
		return nil
	})
}
