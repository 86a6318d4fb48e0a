package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// A bench is the state of one run of the program.
type bench struct {
	options
	targets []target
	dir     string
	number  int                // of the servers started over a store of their own
	shared  map[string]*server // by target and place, those that operations share which change nothing
	bucket  *bucket            // nil until an operation wants it
}

// stop ends the shared servers, and the bucket with all that is in it.
func (b *bench) stop() {
	for key, s := range b.shared {
		s.stop()
		delete(b.shared, key)
	}
	if b.bucket != nil {
		b.bucket.stop()
		b.bucket = nil
	}
}

func (b *bench) progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

// fresh starts a target over an empty store, when the disk has nothing to do for what was before.
func (b *bench) fresh(ctx context.Context, t target) (*server, error) {
	b.number++
	s, err := start(ctx, t, filepath.Join(b.dir, fmt.Sprintf("%s-%d", t.name, b.number)))
	if err != nil {
		return nil, err
	}
	b.progress("%s is process %d", strings.TrimSpace(t.name+" "+t.place), s.process.Pid)
	syscall.Sync()
	return s, nil
}

func (b *bench) serverFor(ctx context.Context, t target) (*server, error) {
	if s, ok := b.shared[t.key()]; ok {
		return s, nil
	}
	s, err := b.fresh(ctx, t)
	if err == nil {
		b.shared[t.key()] = s
	}
	return s, err
}

// targetsOf returns the targets that can do an operation, in its place, and the error of those that could not be set up there.
func (b *bench) targetsOf(ctx context.Context, op operation) (targets []target, failed map[string]error) {
	failed = map[string]error{}
	for _, t := range b.targets {
		if slices.Contains(op.except, t.name) {
			continue
		}
		if op.place == nil {
			targets = append(targets, t)
			continue
		}
		placed, err := op.place(ctx, b, t)
		if err != nil {
			failed[t.name] = err
		}
		targets = append(targets, placed...)
	}
	return targets, failed
}

// measureOperation measures an operation on all targets in turn, round after round, each round beginning with another.
func (b *bench) measureOperation(ctx context.Context, op operation) outcome {
	b.progress("%s", op.name)
	o := outcome{operation: op, results: map[string][]result{}}
	var targets []target
	targets, o.failed = b.targetsOf(ctx, op)
	loads := map[string]*load{}
	for _, t := range targets {
		if op.fresh {
			break
		}
		s, err := b.serverFor(ctx, t)
		if err == nil {
			loads[t.name], err = op.prepare(s)
		}
		if err != nil {
			o.failed[t.name] = err
		}
	}
	for round := range b.rounds {
		for i := range targets {
			t := targets[(i+round)%len(targets)]
			if o.failed[t.name] != nil {
				continue
			}
			r, err := b.measureOnce(ctx, op, t, loads[t.name])
			if err != nil {
				o.failed[t.name] = err
				continue
			}
			o.results[t.name] = append(o.results[t.name], r)
		}
	}
	return o
}

// measureOnce measures an operation on one target, on its shared server with the load prepared or on a fresh one.
func (b *bench) measureOnce(ctx context.Context, op operation, t target, l *load) (r result, err error) {
	if !op.fresh {
		return b.load(ctx, op, b.shared[t.key()], l)
	}
	err = b.withFresh(ctx, t, func(s *server) error {
		l, err := op.prepare(s)
		if err == nil {
			r, err = b.load(ctx, op, s, l)
		}
		return err
	})
	return r, err
}

// withFresh calls f with a target over an empty store, and removes it. An error of f comes with the end of its log.
func (b *bench) withFresh(ctx context.Context, t target, f func(*server) error) error {
	s, err := b.fresh(ctx, t)
	if err != nil {
		return err
	}
	if err = f(s); err != nil {
		err = fmt.Errorf("%w\n%s", err, s.lastLog())
	}
	return errors.Join(err, s.discard())
}
