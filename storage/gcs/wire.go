package gcs

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"berth/storage"
	"berth/storage/remote"
)

const (
	// maxAnswer is how much of an answer to a write is read, which is a few hundred bytes long.
	maxAnswer = 1 << 20
	// slowest is how many bytes a second of a body a connection must take.
	slowest = 128 << 10
)

// A wire sends requests. It ends requests of resumable sessions that take too long, which the library would wait for, notes
// in a [doubt] what may have been performed, and tells a bucket that is gone from an object that is not there.
type wire struct{ next http.RoundTripper }

var (
	errNoBucket = errors.New("the bucket is gone")
	errSilent   = errors.New("the service is silent")

	errUnfinished = fmt.Errorf("%w: the service does not end a session of which it has all", storage.ErrUnavailable)
)

// RoundTrip implements [http.RoundTripper].
func (w wire) RoundTrip(r *http.Request) (*http.Response, error) {
	send := w.next.RoundTrip
	query := r.URL.Query()
	if query.Has("upload_id") || query.Get("uploadType") == "resumable" {
		send = w.within
	}
	response, err := send(r)
	if d, ok := r.Context().Value(doubtKey{}).(*doubt); ok && (err != nil && !remote.NotSent(err) || err == nil && response.StatusCode >= 500) {
		d.Store(true)
	}
	if err == nil && response.StatusCode == http.StatusNotFound && r.Method == http.MethodGet {
		return explained(response)
	}
	return response, err
}

// within sends a request whose answer is short, and reads all of it, in the time that its body may take.
func (w wire) within(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(r.Context(), attemptTime(r.ContentLength))
	defer cancel()
	response, err := w.next.RoundTrip(r.WithContext(ctx))
	if err == nil {
		var body []byte
		body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer))
		_ = response.Body.Close()
		response.Body = io.NopCloser(bytes.NewReader(body))
		if err == nil && response.ContentLength > int64(len(body)) {
			err = io.ErrUnexpectedEOF
		}
	}
	switch {
	case err != nil && ctx.Err() != nil && r.Context().Err() == nil:
		return nil, errSilent
	case err != nil:
		return nil, err
	case unfinished(r, response):
		return nil, errUnfinished
	}
	return response, nil
}

// unfinished reports whether the service wants more of an object of which all was sent. The library would ask it again, for ever.
func unfinished(r *http.Request, response *http.Response) bool {
	asked := strings.HasPrefix(r.Header.Get("Content-Range"), "bytes */")
	return asked && response.Header.Get("X-Http-Status-Code-Override") == "308"
}

// attemptTime is how long a request with a body may take.
func attemptTime(bytes int64) time.Duration {
	return remote.AnswerWithin + time.Duration(max(bytes, 0))*time.Second/slowest
}

// explained replaces an answer that says that the bucket is gone by errNoBucket. Only answers of the XML API say it in a code.
func explained(response *http.Response) (*http.Response, error) {
	body, err := io.ReadAll(io.LimitReader(response.Body, 16<<10))
	_ = response.Body.Close()
	if err != nil {
		return nil, err
	}
	var answer struct{ Code string }
	if xml.Unmarshal(body, &answer) == nil && answer.Code == "NoSuchBucket" {
		return nil, errNoBucket
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, nil
}

// A doubt tells whether a request of a call may have been performed without our knowing. It is found in the context.
type doubt struct{ atomic.Bool }

type doubtKey struct{}

func withDoubt(ctx context.Context) (context.Context, *doubt) {
	d := &doubt{}
	return context.WithValue(ctx, doubtKey{}, d), d
}
