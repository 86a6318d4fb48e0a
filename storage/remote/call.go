// Package remote is what drivers over a service elsewhere have in common: calls that are tried again within a budget, a
// breaker for when the service is dead, bodies that go up in parts out of shared buffers, and readers that go on where a
// connection broke off. It knows no protocol: what a failed attempt means is said by the driver, as a [Verdict].
package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"time"

	"berth/storage"
)

// The limits of calls.
const (
	RetryBudget  = 20 * time.Second      // in which attempts may begin, beside what one may take
	FirstDelay   = 50 * time.Millisecond // before the second attempt; it doubles
	AnswerWithin = 10 * time.Second      // for a call without a body, and for each read of an answer

	attempts     = 8 // of one call
	longestDelay = 3 * time.Second
	slowest      = 128 << 10 // bytes a second of a body, below which a connection counts as dead
)

// A Verdict is what a failed attempt means.
type Verdict struct {
	Class     error // nil: none of those in package storage
	Retry     bool
	Uncertain bool  // it may have taken effect
	Dead      bool  // nothing that works answered
	Cause     error // told in place of the failure, unless that is of the Class; nil: the failure itself
}

// Wrap makes the error of a call. The cause is told, not wrapped: its timeouts are not those of the caller.
func (v Verdict) Wrap(c Call, cause error) error {
	if v.Cause != nil && (v.Class == nil || !errors.Is(cause, v.Class)) {
		cause = v.Cause
	}
	if v.Class == nil {
		return fmt.Errorf("%s %s: %v", c.Operation, c.Key, cause)
	}
	if errors.Is(cause, v.Class) {
		return fmt.Errorf("%s %s: %w", c.Operation, c.Key, cause)
	}
	return fmt.Errorf("%s %s: %w: %v", c.Operation, c.Key, v.Class, cause)
}

// denies reports whether the verdict says that no attempt of a call took effect, which only the first can know.
func (v Verdict) denies(c Call) bool {
	return errors.Is(v.Class, storage.ErrNoSpace) ||
		c.Conditional && (errors.Is(v.Class, storage.ErrConflict) || errors.Is(v.Class, fs.ErrNotExist))
}

// A Call is one operation of a driver, for errors, with the bytes that it sends.
type Call struct {
	Operation, Key string
	Bytes          int
	Conditional    bool          // it may meet an effect of its own
	Limit          time.Duration // of one attempt; 0 means what follows from the bytes
}

func (c Call) timeout() time.Duration {
	if c.Limit != 0 {
		return c.Limit
	}
	return AnswerWithin + time.Duration(c.Bytes)*time.Second/slowest
}

// A Service is what calls go to. Judge says what to make of a failed attempt; it is asked about errors of the breaker, too,
// which are ErrUnavailable and not worth another attempt. A Service is safe for concurrent use.
type Service struct {
	Judge   func(error) Verdict
	breaker breaker
}

// Do runs f until it succeeds, fails for good, or has used up its attempts. The error names the call and has its class. A
// call of which an attempt may have taken effect does not answer ErrNoSpace, and a conditional one neither ErrConflict nor
// fs.ErrNotExist, but ErrUnavailable.
func (s *Service) Do(ctx context.Context, c Call, f func(ctx context.Context) error) error {
	start := time.Now()
	delay := FirstDelay
	uncertain := false // an attempt may have taken effect without our knowing
	for attempt := 1; ; attempt++ {
		failure := s.attempt(ctx, c, f)
		if failure == nil {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%s %s: %w", c.Operation, c.Key, err)
		}
		verdict := s.Judge(failure)
		if uncertain && verdict.denies(c) {
			return fmt.Errorf("%s %s: %w: a reply was lost and it is not known whose change was made; after that, %v", c.Operation, c.Key,
				storage.ErrUnavailable, verdict.Class)
		}
		uncertain = uncertain || verdict.Uncertain
		if !verdict.Retry || attempt == attempts || time.Since(start)+delay > RetryBudget+c.timeout() {
			return verdict.Wrap(c, failure)
		}
		if err := Sleep(ctx, delay/2+rand.N(delay/2)); err != nil {
			return fmt.Errorf("%s %s: %w", c.Operation, c.Key, err)
		}
		delay = min(2*delay, longestDelay)
	}
}

// attempt runs f once, if the service is not known to be dead.
func (s *Service) attempt(ctx context.Context, c Call, f func(ctx context.Context) error) error {
	if err := s.breaker.allow(); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, c.timeout())
	defer cancel()
	err := f(limited)
	switch {
	case err == nil:
		s.breaker.record(true)
	case ctx.Err() == nil:
		s.breaker.record(!s.Judge(err).Dead)
	}
	return err
}

// Stream is Do for a request whose answer is read after it returned. The answer ends when it is closed, or silent for
// [AnswerWithin].
func (s *Service) Stream(ctx context.Context, c Call, f func(ctx context.Context) (io.ReadCloser, error)) (body io.ReadCloser, err error) {
	err = s.Do(ctx, c, func(context.Context) error { // whose end would end the answer
		held, cancel := context.WithCancel(ctx)
		timer := time.AfterFunc(AnswerWithin, cancel)
		r, err := f(held)
		if !timer.Stop() && err == nil {
			_ = r.Close()
			err = errSilent
		}
		if err != nil {
			cancel()
			return err
		}
		body = &watched{r, cancel}
		return nil
	})
	return body, err
}

// errSilent says that a connection brought nothing for too long.
var errSilent = errors.New("the service is silent")

// watched is a body that ends when the service is silent for too long.
type watched struct {
	io.ReadCloser
	cancel context.CancelFunc
}

// Read fails when no byte arrives in time.
func (w *watched) Read(p []byte) (int, error) {
	timer := time.AfterFunc(AnswerWithin, w.cancel)
	defer timer.Stop()
	return w.ReadCloser.Read(p)
}

// Close ends the request.
func (w *watched) Close() error {
	defer w.cancel()
	return w.ReadCloser.Close()
}

// Sleep waits for a time, or for the end of ctx, whose error it returns.
func Sleep(ctx context.Context, t time.Duration) error {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
