package gcs

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"berth/storage"
	"berth/storage/gcs/gcstest"
)

// endless is a service that never says that it has all of a session.
type endless struct {
	*gcstest.Service
	asked int
}

func (e *endless) RoundTrip(r *http.Request) (*http.Response, error) {
	of := r.Header.Get("Content-Range")
	if of == "" || strings.HasSuffix(of, "/*") {
		return e.Service.RoundTrip(r)
	}
	e.asked++
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"X-Http-Status-Code-Override": {"308"}}, Request: r, Body: http.NoBody,
		ProtoMajor: 1, ProtoMinor: 1}, nil
}

// TestEndlessSession puts a large object to a service that wants more of it when it has all.
func TestEndlessSession(t *testing.T) {
	service := &endless{Service: gcstest.New()}
	d := openOver(t, over(service))
	_, err := d.Put(t.Context(), "data/large", strings.NewReader(strings.Repeat("x", 2*gcstest.ChunkUnit+1)), -1, storage.Cond{})
	if !errors.Is(err, storage.ErrUnavailable) || service.asked != 2 {
		t.Errorf("Put = %v after %d requests", err, service.asked)
	}
}
