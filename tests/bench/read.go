package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"

	"berth/tests/bench/wire"
)

// acceptImage is asked for because the peer answers 404 without it.
const acceptImage = "Accept: " + imageType + "\r\n"

// A sample is a request for something known.
type sample struct {
	path, header string
	status       int // 0 means 200
	size         int64
	digest       string
}

func (s sample) head(method string) []byte {
	return wire.Request{Method: method, Path: s.path, Header: s.header}.Head()
}

func (s sample) want() int {
	if s.status == 0 {
		return http.StatusOK
	}
	return s.status
}

// check gets a sample and hashes what comes back.
func check(c *wire.Client, s sample) error {
	hash := sha256.New()
	if err := c.Fetch(s.want(), s.head("GET"), hash); err != nil {
		return err
	}
	if got := "sha256:" + hex.EncodeToString(hash.Sum(nil)); got != s.digest || c.Length != s.size {
		return fmt.Errorf("%s: %d bytes with digest %s, not %d with %s", s.path, c.Length, got, s.size, s.digest)
	}
	return nil
}

// reading is an operation that requests samples in turn, after each was checked once.
func reading(method string, samples func(*server) ([]sample, error)) func(*server) (*load, error) {
	return func(s *server) (*load, error) {
		all, err := samples(s)
		if err != nil {
			return nil, err
		}
		if err := each(s, 1, len(all), func(c *wire.Client, i int) error { return check(c, all[i]) }); err != nil {
			return nil, err
		}
		return &load{worker: func(n int) (step, error) { return requests(method, all, n), nil }}, nil
	}
}

// requests returns the step that requests samples in turn, beginning with the n-th.
func requests(method string, samples []sample, n int) step {
	heads := make([][]byte, len(samples))
	for i, s := range samples {
		heads[i] = s.head(method)
	}
	return func(c *wire.Client) error {
		i := n % len(samples)
		n++
		if err := c.Do(samples[i].want(), heads[i], nil, nil); err != nil {
			return err
		}
		if c.Length != samples[i].size {
			return fmt.Errorf("%s: length %d, not %d", wire.FirstLine(heads[i]), c.Length, samples[i].size)
		}
		return nil
	}
}
