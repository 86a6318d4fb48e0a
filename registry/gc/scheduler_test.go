package gc_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"berth/storage"
	"berth/storage/memory"
	"berth/storage/storagetest"
)

// A scheduler runs many goroutines over one store, in a bubble of testing/synctest, one of them at a time: each waits at
// every call of the store, before it is performed and again before its reply arrives, until a random number says that it may
// go on. The same seed makes the same choices.
type scheduler struct {
	base   *memory.Driver
	random *rand.Rand
	faults float64 // probability of a fault at a call
	begun  map[string]time.Time
	epoch  time.Time

	mu      sync.Mutex
	waiting []*waiting
	trace   []event
	steps   int
	written func(op storagetest.Op, key string) // after a change took place
}

// waiting is a goroutine at a call.
type waiting struct {
	actor string
	op    storagetest.Op
	key   string
	cond  storage.Cond
	reply bool // the call was performed
	until int  // the step before which it stays, if others can go
	go_   chan storagetest.Mode
}

func (w *waiting) compare(o *waiting) int {
	return cmp.Or(strings.Compare(w.actor, o.actor), strings.Compare(string(w.op), string(o.op)), strings.Compare(w.key, o.key))
}

// An event is a call that was performed, or a remark.
type event struct {
	step int
	at   time.Duration
	text string
	key  string
}

func newScheduler(seed uint64, faults float64) *scheduler {
	return &scheduler{
		base:   memory.NewWith(memory.Options{Now: time.Now}),
		random: rand.New(rand.NewPCG(seed, 1)), faults: faults,
		begun: map[string]time.Time{}, epoch: time.Now(),
		written: func(storagetest.Op, string) {},
	}
}

type actorKey struct{}

// as names who makes the calls under a context.
func as(ctx context.Context, actor string) context.Context {
	return context.WithValue(ctx, actorKey{}, actor)
}

func actorOf(ctx context.Context) string {
	name, _ := ctx.Value(actorKey{}).(string)
	return name
}

func (s *scheduler) remark(actor, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trace = append(s.trace, event{s.steps, time.Since(s.epoch), fmt.Sprintf("%-14s "+format, append([]any{actor}, args...)...), ""})
}

func (s *scheduler) note(actor, what, key string) {
	s.trace = append(s.trace, event{s.steps, time.Since(s.epoch), fmt.Sprintf("%-14s %-22s %s", actor, what, key), key})
}

// story tells the last n events, and all that are about one of the keys.
func (s *scheduler) story(n int, keys ...string) string {
	var b strings.Builder
	for i, e := range s.trace {
		if i < len(s.trace)-n && !slices.ContainsFunc(keys, func(key string) bool { return key != "" && strings.Contains(e.text, key) }) {
			continue
		}
		fmt.Fprintf(&b, "%7d %12s %s\n", e.step, e.at, e.text)
	}
	return b.String()
}

// wait parks the calling goroutine, unless it is nobody's.
func (s *scheduler) wait(ctx context.Context, op storagetest.Op, key string, cond storage.Cond, reply bool) storagetest.Mode {
	if actorOf(ctx) == "" {
		return storagetest.Pass
	}
	w := &waiting{actor: actorOf(ctx), op: op, key: key, cond: cond, reply: reply, go_: make(chan storagetest.Mode)}
	s.mu.Lock()
	s.waiting = append(s.waiting, w)
	s.mu.Unlock()
	return <-w.go_
}

// choose draws one of those who wait. Now and then it makes one wait for long: what takes place in the middle of it is what
// breaks things.
func (s *scheduler) choose() int {
	for range 20 {
		i := s.random.IntN(len(s.waiting))
		switch w := s.waiting[i]; {
		case s.steps < w.until:
		case w.until == 0 && s.random.IntN(60) == 0:
			w.until = s.steps + 1 + s.random.IntN(300)
		default:
			return i
		}
	}
	return s.random.IntN(len(s.waiting))
}

// step lets one goroutine go on, and reports whether there was one.
func (s *scheduler) step(quiet bool) bool {
	synctest.Wait()
	s.mu.Lock()
	if len(s.waiting) == 0 {
		s.mu.Unlock()
		return false
	}
	slices.SortFunc(s.waiting, (*waiting).compare)
	i := s.choose()
	w := s.waiting[i]
	s.waiting = slices.Delete(s.waiting, i, i+1)
	mode := storagetest.Pass
	if !w.reply && !quiet && s.random.Float64() < s.faults {
		mode = []storagetest.Mode{storagetest.FailBefore, storagetest.FailAfter, storagetest.ConflictAfter}[s.random.IntN(3)]
	}
	s.steps++
	if !w.reply {
		what := string(w.op)
		if rev, ok := w.cond.Rev(); ok {
			what += " if " + string(rev)
		} else if w.cond.IsAbsent() {
			what += " if absent"
		}
		what += map[storagetest.Mode]string{storagetest.FailBefore: " FAILS", storagetest.FailAfter: " LOSES REPLY", storagetest.ConflictAfter: " CONFLICTS"}[mode]
		s.note(w.actor, what, w.key)
	}
	s.mu.Unlock()
	w.go_ <- mode
	synctest.Wait()
	return true
}

func failed(op storagetest.Op, key string) error {
	return fmt.Errorf("%s %s: made to fail: %w", op, key, storage.ErrUnavailable)
}

// finish ends a call that was performed: its reply may come late, be lost, or be taken for a conflict.
func (s *scheduler) finish(ctx context.Context, op storagetest.Op, key string, cond storage.Cond, mode storagetest.Mode, err error) error {
	s.mu.Lock()
	if err != nil {
		s.note(actorOf(ctx), "  "+string(op)+" answers", fmt.Sprint(err))
	} else if op == storagetest.OpPut || op == storagetest.OpDelete {
		s.written(op, key)
	}
	s.mu.Unlock()
	s.wait(ctx, op, key, cond, true)
	switch {
	case err != nil:
		return err
	case mode == storagetest.ConflictAfter && !cond.IsAlways():
		return fmt.Errorf("%s %s: made to conflict: %w", op, key, storage.ErrConflict)
	case mode != storagetest.Pass:
		return failed(op, key)
	}
	return ctx.Err()
}

// info is what the store says of an object: as with multipart uploads, large ones are as old as their beginning.
func (s *scheduler) info(i storage.Info) storage.Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.begun[i.Key]; ok {
		i.ModTime = at
	}
	return i
}

func (s *scheduler) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, storage.Info, error) {
	if mode := s.wait(ctx, storagetest.OpOpen, key, storage.Cond{}, false); mode != storagetest.Pass {
		return nil, storage.Info{}, failed(storagetest.OpOpen, key)
	}
	r, info, err := s.base.Open(ctx, key, off, n)
	return r, s.info(info), err
}

func (s *scheduler) Stat(ctx context.Context, key string) (storage.Info, error) {
	if mode := s.wait(ctx, storagetest.OpStat, key, storage.Cond{}, false); mode != storagetest.Pass {
		return storage.Info{}, failed(storagetest.OpStat, key)
	}
	info, err := s.base.Stat(ctx, key)
	return s.info(info), err
}

func (s *scheduler) Put(ctx context.Context, key string, r io.Reader, size int64, cond storage.Cond) (storage.Info, error) {
	began := time.Now()
	var body bytes.Buffer // a body that flows slowly does so before the object appears
	if _, err := body.ReadFrom(r); err != nil {
		return storage.Info{}, err
	}
	mode := s.wait(ctx, storagetest.OpPut, key, cond, false)
	if mode == storagetest.FailBefore {
		return storage.Info{}, failed(storagetest.OpPut, key)
	}
	info, err := s.base.Put(ctx, key, &body, int64(body.Len()), cond)
	if err == nil && size < 0 {
		s.mu.Lock()
		s.begun[key] = began
		s.mu.Unlock()
	}
	return s.info(info), s.finish(ctx, storagetest.OpPut, key, cond, mode, err)
}

func (s *scheduler) Delete(ctx context.Context, key string, cond storage.Cond) error {
	mode := s.wait(ctx, storagetest.OpDelete, key, cond, false)
	if mode == storagetest.FailBefore {
		return failed(storagetest.OpDelete, key)
	}
	return s.finish(ctx, storagetest.OpDelete, key, cond, mode, s.base.Delete(ctx, key, cond))
}

// listed is how many objects a listing gets by one call.
const listed = 4

func (s *scheduler) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		for {
			if mode := s.wait(ctx, storagetest.OpList, prefix, storage.Cond{}, false); mode != storagetest.Pass {
				yield(storage.Info{}, failed(storagetest.OpList, prefix))
				return
			}
			var page []storage.Info
			for info, err := range s.base.List(ctx, prefix, after) {
				if err != nil {
					yield(storage.Info{}, err)
					return
				}
				if page = append(page, s.info(info)); len(page) == listed {
					break
				}
			}
			for _, info := range page {
				if !yield(info, nil) {
					return
				}
				after = info.Key
			}
			if len(page) < listed {
				return
			}
		}
	}
}

func (s *scheduler) PutAll(ctx context.Context, objects []storage.Object) ([]storage.Info, error) {
	var infos []storage.Info
	for _, o := range objects {
		info, err := s.Put(ctx, o.Key, bytes.NewReader(o.Body), int64(len(o.Body)), o.Cond)
		if err != nil {
			return infos, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}
