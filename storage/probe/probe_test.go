package probe_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"berth/storage"
	"berth/storage/memory"
	"berth/storage/probe"
	"berth/storage/storagetest"
)

// failures are the steps that failed.
func failures(steps []probe.Step) map[string]error {
	failed := map[string]error{}
	for _, s := range steps {
		if s.Err != nil {
			failed[s.Name] = s.Err
		}
	}
	return failed
}

func left(t *testing.T, d storage.Driver) {
	t.Helper()
	for info, err := range d.List(t.Context(), "", "") {
		t.Errorf("%s is left, %v", info.Key, err)
	}
}

// signing has URLs.
type signing struct{ storage.Driver }

func (signing) SignedURL(_ context.Context, key string, _ time.Duration) (string, error) {
	return key, nil
}

func TestAllWorks(t *testing.T) {
	d := signing{memory.New()}
	fetch := func(ctx context.Context, key string) ([]byte, error) {
		body, _, err := storage.ReadAll(ctx, d, key, 1<<10)
		return body, err
	}
	steps := probe.Run(t.Context(), d, probe.Options{Large: 1 << 20, Fetch: fetch, Redirects: true})
	if failed := failures(steps); len(steps) != 11 || len(failed) > 0 {
		t.Errorf("%d steps, failed: %v", len(steps), failed)
	}
	left(t, d)
	if failed := failures(probe.Run(t.Context(), memory.New(), probe.Options{Large: 1, Fetch: fetch})); !errors.Is(failed[probe.Sign], errors.ErrUnsupported) || len(failed) != 1 {
		t.Errorf("without URLs these fail: %v", failed)
	}
}

// broken is a storage of which one thing does not work.
type broken struct {
	storage.Driver
	how string
}

func (b broken) Put(ctx context.Context, key string, r io.Reader, size int64, cond storage.Cond) (storage.Info, error) {
	switch {
	case b.how == probe.Write:
		return storage.Info{}, errors.New("no permission")
	case b.how == probe.Create && cond.IsAbsent():
		cond = storage.Cond{}
	case b.how == probe.Replace && !cond.IsAbsent():
		cond = storage.Cond{}
	case b.how == probe.Large && size < 0:
		r = io.LimitReader(r, 1<<10)
	}
	return b.Driver.Put(ctx, key, r, size, cond)
}

func (b broken) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, storage.Info, error) {
	if b.how == probe.ReadRange && off == 7 {
		off, n = 0, -1
	}
	return b.Driver.Open(ctx, key, off, n)
}

func (b broken) Delete(ctx context.Context, key string, cond storage.Cond) error {
	if b.how == probe.DeleteConditional {
		cond = storage.Cond{}
	}
	return b.Driver.Delete(ctx, key, cond)
}

// TestBroken breaks one thing at a time: it is the step that fails, and what is there goes all the same.
func TestBroken(t *testing.T) {
	for _, how := range []string{probe.Write, probe.ReadRange, probe.Create, probe.Replace, probe.Large, probe.DeleteConditional} {
		d := memory.New()
		steps := probe.Run(t.Context(), broken{d, how}, probe.Options{Large: 1 << 20})
		failed := failures(steps)
		if failed[how] == nil || failed[probe.Clean] != nil {
			t.Errorf("%s: these fail: %v", how, failed)
		}
		if how == probe.Write && !errors.Is(failed[probe.Read], probe.ErrNotTried) {
			t.Errorf("reading what could not be written = %v", failed[probe.Read])
		}
		left(t, d)
	}
}

// TestEveryCall fails each call in turn: something is said to fail, and nothing is left unless that is said.
func TestEveryCall(t *testing.T) {
	for n := 1; ; n++ {
		d := storagetest.NewFlaky(memory.New())
		d.FailNth(n, storagetest.FailBefore)
		failed := failures(probe.Run(t.Context(), d, probe.Options{Large: 1 << 10}))
		delete(failed, probe.Sign)
		if len(failed) == 0 {
			if n < 20 {
				t.Errorf("the failure of call %d is not seen", n)
			}
			return
		}
		if failed[probe.Clean] == nil {
			left(t, d)
		}
	}
}

// TestInterrupted cleans up after a context that ended.
func TestInterrupted(t *testing.T) {
	d := memory.New()
	ctx, cancel := context.WithCancel(t.Context())
	fetch := func(context.Context, string) ([]byte, error) { cancel(); return nil, ctx.Err() }
	failed := failures(probe.Run(ctx, signing{d}, probe.Options{Large: 1 << 10, Fetch: fetch}))
	if failed[probe.Sign] == nil || failed[probe.Delete] == nil || failed[probe.Clean] != nil {
		t.Errorf("these fail: %v", failed)
	}
	left(t, d)
}
