package health

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"sync/atomic"

	"berth/storage"
)

// Storage returns a check of a storage: that the driver says it is well, and that a look into it works.
func Storage(d storage.Driver) func(context.Context) error {
	return func(ctx context.Context) error {
		if h, ok := storage.As[interface{ Healthy() error }](d); ok {
			if err := h.Healthy(); err != nil {
				return err
			}
		}
		if _, err := d.Stat(ctx, "config/readiness"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
}

// StorageReason says why a storage is not well, to whoever asks: the error itself is for the log.
func StorageReason(err error) string {
	switch {
	case errors.Is(err, ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return "the storage does not answer"
	case errors.Is(err, storage.ErrNoSpace):
		return "the storage is full"
	case errors.Is(err, storage.ErrReadOnly):
		return "the storage is read-only"
	case errors.Is(err, storage.ErrUnavailable):
		return "the storage is unavailable"
	default:
		return "the storage fails"
	}
}

// Room returns a check that at least so many bytes can still be written, by [storage.ErrNoSpace]. Where that cannot be told, it
// finds nothing.
func Room(space func() (free, total uint64, err error), least func() uint64) func(context.Context) error {
	return func(context.Context) error {
		free, _, err := space()
		if want := least(); err == nil && free < want {
			return fmt.Errorf("%w: %d bytes are left, less than the %d that are to be kept free", storage.ErrNoSpace, free, want)
		}
		return nil
	}
}

// Writing checks whether a storage takes what is written. While nothing else says that it does not, nothing is written for that.
type Writing struct {
	Look    func() error                // finds without writing that nothing can be written; nil: that cannot be found
	Try     func(context.Context) error // writes something small
	suspect atomic.Bool
}

// Doubt says that writing failed: the next check tries.
func (w *Writing) Doubt() { w.suspect.Store(true) }

// Check is a check.
func (w *Writing) Check(ctx context.Context) error {
	if w.Look != nil {
		if err := w.Look(); err != nil {
			w.suspect.Store(true)
			return err
		}
	}
	if !w.suspect.Swap(false) {
		return nil
	}
	err := w.Try(ctx)
	if err != nil {
		w.suspect.Store(true)
	}
	return err
}

// NoFile returns a check that there is no file of a name: making it takes the registry out of service.
func NoFile(name string) func(context.Context) error {
	return func(context.Context) error {
		_, err := os.Stat(name)
		switch {
		case err == nil:
			return fmt.Errorf("%s exists", name)
		case errors.Is(err, fs.ErrNotExist):
			return nil
		}
		return err
	}
}

// Answers returns a check that a TCP address takes connections.
func Answers(addr string) func(context.Context) error {
	return func(ctx context.Context) error {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		return c.Close()
	}
}

// Responds returns a check that a URL answers a HEAD request with a status. Redirects are not followed: the headers are for
// this URL alone.
func Responds(url string, headers http.Header, status int) func(context.Context) error {
	client := &http.Client{
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
		if err != nil {
			return err
		}
		r.Header = headers.Clone()
		answer, err := client.Do(r)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode != status {
			return fmt.Errorf("HEAD answers %s, not %d", answer.Status, status)
		}
		return nil
	}
}
