package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"berth/storage"
)

const (
	attempts     = 8                     // of one call
	retryBudget  = 20 * time.Second      // in which attempts may begin, beside what one may take
	firstDelay   = 50 * time.Millisecond // before the second attempt; it doubles
	longestDelay = 3 * time.Second
	answerWithin = 10 * time.Second // for a call without a body
	slowest      = 128 << 10        // bytes a second of a body, below which a connection counts as dead
)

// A call is one operation of the driver, for errors, with the bytes that it sends.
type call struct {
	operation, key string
	bytes          int
	conditional    bool          // it may meet an effect of its own
	limit          time.Duration // of one attempt; 0 means what follows from the bytes
}

func (c call) timeout() time.Duration {
	if c.limit != 0 {
		return c.limit
	}
	return answerWithin + time.Duration(c.bytes)*time.Second/slowest
}

// do runs f until it succeeds, fails for good, or has used up its attempts. The error names the call and has its class.
func (d *Driver) do(ctx context.Context, c call, f func(ctx context.Context) error) error {
	start := time.Now()
	delay := firstDelay
	uncertain := false // an attempt may have taken effect without our knowing
	for attempt := 1; ; attempt++ {
		failure := d.attempt(ctx, c, f)
		if failure == nil {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%s %s: %w", c.operation, c.key, err)
		}
		verdict := judge(failure)
		if uncertain && c.conditional && errors.Is(verdict.class, storage.ErrConflict) {
			return fmt.Errorf("%s %s: %w: a reply was lost and it is not known whose change was made", c.operation, c.key, storage.ErrUnavailable)
		}
		uncertain = uncertain || verdict.uncertain
		if !verdict.retry || attempt == attempts || time.Since(start)+delay > retryBudget+c.timeout() {
			return verdict.wrap(c, failure)
		}
		if err := sleep(ctx, delay/2+rand.N(delay/2)); err != nil {
			return fmt.Errorf("%s %s: %w", c.operation, c.key, err)
		}
		delay = min(2*delay, longestDelay)
	}
}

// attempt runs f once, if the service is not known to be dead.
func (d *Driver) attempt(ctx context.Context, c call, f func(ctx context.Context) error) error {
	if err := d.breaker.allow(); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, c.timeout())
	defer cancel()
	err := f(limited)
	switch {
	case err == nil:
		d.breaker.record(true)
	case ctx.Err() == nil:
		d.breaker.record(!judge(err).dead)
	}
	return err
}

// stream is do for a request whose answer is read after it returned. The context of the answer ends when release is called.
func (d *Driver) stream(ctx context.Context, c call, f func(ctx context.Context) (io.ReadCloser, error)) (body io.ReadCloser, err error) {
	err = d.do(ctx, c, func(context.Context) error { // whose end would end the answer
		held, cancel := context.WithCancel(ctx)
		timer := time.AfterFunc(answerWithin, cancel)
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
	timer := time.AfterFunc(answerWithin, w.cancel)
	defer timer.Stop()
	return w.ReadCloser.Read(p)
}

// Close ends the request.
func (w *watched) Close() error {
	defer w.cancel()
	return w.ReadCloser.Close()
}

func sleep(ctx context.Context, t time.Duration) error {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
