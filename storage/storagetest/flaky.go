package storagetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"sync"
	"time"

	"berth/storage"
)

// An Op is one of the methods of a driver.
type Op string

// The methods of a driver.
const (
	OpOpen   Op = "open"
	OpStat   Op = "stat"
	OpPut    Op = "put"
	OpDelete Op = "delete"
	OpList   Op = "list"
)

// A Mode is a way for a call to fail.
type Mode int

const (
	// Pass performs the call.
	Pass Mode = iota
	// FailBefore answers ErrUnavailable without performing the call.
	FailBefore
	// FailAfter performs the call, and then answers ErrUnavailable: its reply was lost.
	FailAfter
	// ConflictAfter performs the call and then, if it succeeded under a condition, answers ErrConflict: its reply was
	// lost and a retry met what it had written itself. A call without a condition fails as with FailAfter.
	ConflictAfter
	// FailMidway fails with ErrUnavailable when half of it is done: the reader of Open after half of its bytes, List
	// after its first object, Put after its body was read; nothing is written. Others fail as with FailBefore.
	FailMidway
	// Cancel performs the call under a context that is cancelled already.
	Cancel
)

// A Fault is what happens to one call: first the delay, which the context of the call may cut short, then the failure.
type Fault struct {
	Mode  Mode
	Delay time.Duration
}

// A Call describes a call of a driver to the function that decides about it.
type Call struct {
	N    int // the number of this call since the last Plan, from 1
	Op   Op
	Key  string // of List: the prefix
	Cond storage.Cond
}

// Flaky is a [storage.Driver] that passes calls on to another one, counts them and makes some fail. It hides all
// optional abilities of the other driver, so that every single operation counts: PutAll is one Put after the other.
type Flaky struct {
	d storage.Driver

	mu     sync.Mutex
	plan   func(Call) Fault
	calls  int
	byOp   map[Op]int
	faults int
}

// NewFlaky returns a Flaky that lets every call pass until there is a plan.
func NewFlaky(d storage.Driver) *Flaky {
	f := &Flaky{d: d}
	f.Plan(nil)
	return f
}

// Plan sets what happens to the calls from now on, and begins to count anew; nil lets all pass. The function is called
// by one call at a time.
func (f *Flaky) Plan(plan func(Call) Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plan, f.calls, f.faults, f.byOp = plan, 0, 0, make(map[Op]int)
}

// FailNth is a Plan under which the n-th call from now fails, n counting from 1, and all others pass.
func (f *Flaky) FailNth(n int, mode Mode) {
	f.Plan(func(c Call) Fault {
		if c.N == n {
			return Fault{Mode: mode}
		}
		return Fault{}
	})
}

// Calls returns how many calls there were since the last Plan.
func (f *Flaky) Calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// Count returns how many calls of one kind there were since the last Plan.
func (f *Flaky) Count(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.byOp[op]
}

// Faults returns how many calls were made to fail or wait since the last Plan. A loop that fails the n-th call for every
// n ends when it is 0.
func (f *Flaky) Faults() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.faults
}

// begin counts a call and returns how it is to fail, with the context to perform it under.
func (f *Flaky) begin(ctx context.Context, op Op, key string, cond storage.Cond) (context.Context, Mode, error) {
	fault := f.next(op, key, cond)
	if fault.Delay > 0 {
		select {
		case <-ctx.Done():
			return ctx, fault.Mode, ctx.Err()
		case <-time.After(fault.Delay):
		}
	}
	switch fault.Mode {
	case FailBefore:
		return ctx, fault.Mode, unavailable(op, key)
	case Cancel:
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		cancel()
	}
	return ctx, fault.Mode, nil
}

func (f *Flaky) next(op Op, key string, cond storage.Cond) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	f.byOp[op]++
	if f.plan == nil {
		return Fault{}
	}
	fault := f.plan(Call{N: f.calls, Op: op, Key: key, Cond: cond})
	if fault != (Fault{}) {
		f.faults++
	}
	return fault
}

func unavailable(op Op, key string) error {
	return fmt.Errorf("%s %s: made to fail: %w", op, key, storage.ErrUnavailable)
}

// end turns the success of a write into the failure that mode asks for.
func end(mode Mode, op Op, key string, cond storage.Cond, err error) error {
	switch {
	case err != nil:
		return err
	case mode == ConflictAfter && !cond.IsAlways():
		return fmt.Errorf("%s %s: made to conflict with itself: %w", op, key, storage.ErrConflict)
	case mode == ConflictAfter || mode == FailAfter:
		return unavailable(op, key)
	}
	return nil
}

// Open implements [storage.Driver]. Its reader cannot seek.
func (f *Flaky) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, storage.Info, error) {
	ctx, mode, err := f.begin(ctx, OpOpen, key, storage.Cond{})
	if err != nil {
		return nil, storage.Info{}, err
	}
	r, info, err := f.d.Open(ctx, key, off, n)
	if err != nil {
		return nil, info, err
	}
	if err := end(mode, OpOpen, key, storage.Cond{}, nil); err != nil {
		r.Close()
		return nil, storage.Info{}, err
	}
	if mode == FailMidway {
		rest := max(0, info.Size-off)
		if n >= 0 {
			rest = min(rest, n)
		}
		return &cutReader{r, rest / 2, unavailable(OpOpen, key)}, info, nil
	}
	return r, info, nil
}

// cutReader fails with err after its first n bytes.
type cutReader struct {
	r   io.ReadCloser
	n   int64
	err error
}

func (c *cutReader) Read(p []byte) (int, error) {
	if c.n == 0 {
		return 0, c.err
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.n)])
	c.n -= int64(n)
	return n, err
}

func (c *cutReader) Close() error { return c.r.Close() }

// Stat implements [storage.Driver].
func (f *Flaky) Stat(ctx context.Context, key string) (storage.Info, error) {
	ctx, mode, err := f.begin(ctx, OpStat, key, storage.Cond{})
	if err != nil {
		return storage.Info{}, err
	}
	info, err := f.d.Stat(ctx, key)
	if mode == FailMidway {
		err = unavailable(OpStat, key)
	}
	if err = end(mode, OpStat, key, storage.Cond{}, err); err != nil {
		return storage.Info{}, err
	}
	return info, nil
}

// Put implements [storage.Driver].
func (f *Flaky) Put(ctx context.Context, key string, r io.Reader, size int64, cond storage.Cond) (storage.Info, error) {
	ctx, mode, err := f.begin(ctx, OpPut, key, cond)
	if err != nil {
		return storage.Info{}, err
	}
	if mode == FailMidway {
		if _, err := io.Copy(io.Discard, r); err != nil {
			return storage.Info{}, fmt.Errorf("put %s: %w", key, err)
		}
		return storage.Info{}, unavailable(OpPut, key)
	}
	info, err := f.d.Put(ctx, key, r, size, cond)
	if err := end(mode, OpPut, key, cond, err); err != nil {
		return storage.Info{}, err
	}
	return info, nil
}

// PutAll implements [storage.Batcher] by one Put for each object.
func (f *Flaky) PutAll(ctx context.Context, objects []storage.Object) ([]storage.Info, error) {
	infos := make([]storage.Info, 0, len(objects))
	for _, o := range objects {
		info, err := f.Put(ctx, o.Key, bytes.NewReader(o.Body), int64(len(o.Body)), o.Cond)
		if err != nil {
			return infos, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// Delete implements [storage.Driver].
func (f *Flaky) Delete(ctx context.Context, key string, cond storage.Cond) error {
	ctx, mode, err := f.begin(ctx, OpDelete, key, cond)
	if err != nil {
		return err
	}
	if mode == FailMidway {
		return unavailable(OpDelete, key)
	}
	return end(mode, OpDelete, key, cond, f.d.Delete(ctx, key, cond))
}

// List implements [storage.Driver]. A listing counts once, when it begins.
func (f *Flaky) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		ctx, mode, err := f.begin(ctx, OpList, prefix, storage.Cond{})
		if err != nil {
			yield(storage.Info{}, err)
			return
		}
		for info, err := range f.d.List(ctx, prefix, after) {
			if !yield(info, err) || err != nil {
				return
			}
			if mode == FailMidway {
				break
			}
		}
		if mode == FailMidway || mode == FailAfter || mode == ConflictAfter {
			yield(storage.Info{}, unavailable(OpList, prefix))
		}
	}
}
