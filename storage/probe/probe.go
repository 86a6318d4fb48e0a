// Package probe tries what a registry asks of a storage, whichever driver has it, and tells what works. What it puts is below
// one key of its own, and removed in the end.
package probe

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"berth/storage"
)

// Names of steps, in their order.
const (
	Write             = "write"
	Read              = "read"
	ReadRange         = "read a range"
	Create            = "create once"
	Replace           = "replace under a condition"
	List              = "list in order"
	Large             = "large object"
	Sign              = "signed URL"
	DeleteConditional = "delete under a condition"
	Delete            = "delete"
	Clean             = "leave nothing"
)

// A Step is one thing that was tried.
type Step struct {
	Name   string
	Needed bool // a registry cannot do without
	Took   time.Duration
	Err    error // nil: it works; errors.ErrUnsupported: the storage does not have it; ErrNotTried
}

// ErrNotTried says that a step was not tried, since one that it builds upon failed.
var ErrNotTried = errors.New("not tried")

// Options say how thoroughly to try.
type Options struct {
	// Large is the size in bytes, at least 1, of an object that does not go up in one piece.
	Large int64
	// Fetch GETs a URL as a client of the registry would. Nil leaves signed URLs untried.
	Fetch func(ctx context.Context, url string) ([]byte, error)
	// Redirects says that clients are sent to signed URLs.
	Redirects bool
}

// stepLimit bounds one step.
const stepLimit = time.Minute

// A probe is objects of its own in a storage.
type probe struct {
	storage.Driver
	o      Options
	prefix string
	keys   []string // that may be there
	body   []byte   // of the first
	info   storage.Info
}

// Run tries all steps, those that build upon a failed write excepted, and returns them in their order.
func Run(ctx context.Context, d storage.Driver, o Options) []Step {
	p := &probe{Driver: d, o: o, prefix: "probe/" + strings.ToLower(rand.Text()) + "/"}
	p.body = []byte("put to try the storage, and to be removed at once: " + p.prefix)
	steps := []Step{}
	var broken bool
	for _, s := range []struct {
		name   string
		needed bool
		try    func(context.Context) error
	}{
		{Write, true, p.write}, {Read, true, p.read}, {ReadRange, true, p.readRange}, {Create, true, p.create}, {Replace, true, p.replace},
		{List, true, p.list}, {Large, true, p.large}, {Sign, o.Redirects, p.sign}, {DeleteConditional, true, p.deleteConditional},
		{Delete, true, p.delete}, {Clean, true, p.clean},
	} {
		step := Step{Name: s.name, Needed: s.needed, Err: ErrNotTried}
		if !broken || s.name == Clean {
			step.Err, step.Took = timed(ctx, s.try)
		}
		if errors.Is(step.Err, errors.ErrUnsupported) {
			step.Needed = false // nobody is sent to URLs that there are not
		}
		broken = broken || s.name == Write && step.Err != nil
		steps = append(steps, step)
	}
	return steps
}

func timed(ctx context.Context, try func(context.Context) error) (error, time.Duration) {
	if ctx.Err() == nil {
		limited, cancel := context.WithTimeout(ctx, stepLimit)
		defer cancel()
		ctx = limited
	}
	start := time.Now()
	err := try(ctx)
	return err, time.Since(start)
}

func (p *probe) put(ctx context.Context, name string, body []byte, cond storage.Cond) (storage.Info, error) {
	key := p.prefix + name
	if !slices.Contains(p.keys, key) {
		p.keys = append(p.keys, key)
	}
	return p.Put(ctx, key, bytes.NewReader(body), int64(len(body)), cond)
}

func (p *probe) write(ctx context.Context) (err error) {
	p.info, err = p.put(ctx, "a", p.body, storage.Absent())
	return err
}

// holds reads a range of an object and compares it.
func (p *probe) holds(ctx context.Context, name string, off, n int64, want []byte) error {
	r, _, err := p.Open(ctx, p.prefix+name, off, n)
	if err != nil {
		return err
	}
	defer r.Close()
	got, err := io.ReadAll(io.LimitReader(r, int64(len(want))+1))
	if err == nil && !bytes.Equal(got, want) {
		err = errors.New("what was put reads as something else")
	}
	return err
}

func (p *probe) read(ctx context.Context) error { return p.holds(ctx, "a", 0, -1, p.body) }

func (p *probe) readRange(ctx context.Context) error { return p.holds(ctx, "a", 7, 11, p.body[7:18]) }

// refused asks that a call under a condition that does not hold was a conflict.
func refused(err error) error {
	switch {
	case errors.Is(err, storage.ErrConflict):
		return nil
	case err == nil:
		return errors.New("a condition that does not hold is ignored")
	}
	return err
}

func (p *probe) create(ctx context.Context) error {
	_, err := p.put(ctx, "a", []byte("a second one"), storage.Absent())
	if err = refused(err); err != nil {
		return err
	}
	return p.read(ctx)
}

func (p *probe) replace(ctx context.Context) error {
	stale := p.info.Rev
	body := append(slices.Clone(p.body), " (again)"...)
	info, err := p.put(ctx, "a", body, storage.Match(stale))
	if err != nil {
		return err
	}
	p.body, p.info = body, info
	_, err = p.put(ctx, "a", []byte("of somebody who is late"), storage.Match(stale))
	if err = refused(err); err != nil {
		return err
	}
	return p.read(ctx)
}

// list asks for the order of bytes, which is not that of folders, and for the rest of a listing.
func (p *probe) list(ctx context.Context) error {
	names := []string{"b!", "b-c", "b.c", "b/c", "b0"}
	for _, name := range names {
		if _, err := p.put(ctx, name, p.body, storage.Cond{}); err != nil {
			return err
		}
	}
	for i, after := range append([]string{"a"}, names...) {
		var got []string
		for info, err := range p.List(ctx, p.prefix, p.prefix+after) {
			if err != nil {
				return err
			}
			got = append(got, strings.TrimPrefix(info.Key, p.prefix))
		}
		if !slices.Equal(got, names[i:]) {
			return fmt.Errorf("after %q it lists %q, not %q", after, got, names[i:])
		}
	}
	return nil
}

// large puts an object of unknown size.
func (p *probe) large(ctx context.Context) error {
	const end = "the end"
	key := p.prefix + "large"
	p.keys = append(p.keys, key)
	body := io.MultiReader(io.LimitReader(zeros{}, p.o.Large), strings.NewReader(end))
	info, err := p.Put(ctx, key, body, -1, storage.Absent())
	if err != nil {
		return err
	}
	if info.Size != p.o.Large+int64(len(end)) {
		return fmt.Errorf("of %d bytes %d are there", p.o.Large+int64(len(end)), info.Size)
	}
	return p.holds(ctx, "large", p.o.Large-1, -1, []byte("\x00"+end))
}

// zeros is bytes without end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// sign fetches an object by its URL.
func (p *probe) sign(ctx context.Context) error {
	if p.o.Fetch == nil {
		return ErrNotTried
	}
	url, err := storage.SignedURL(ctx, p.Driver, p.prefix+"a", stepLimit)
	if err != nil {
		return err
	}
	got, err := p.o.Fetch(ctx, url)
	if err == nil && !bytes.Equal(got, p.body) {
		err = errors.New("what is at the URL is something else than what was put")
	}
	return err
}

func (p *probe) deleteConditional(ctx context.Context) error {
	const name = "c"
	first, err := p.put(ctx, name, []byte("one"), storage.Absent())
	if err != nil {
		return err
	}
	second, err := p.put(ctx, name, []byte("another"), storage.Match(first.Rev))
	if err != nil {
		return err
	}
	if err := refused(p.Driver.Delete(ctx, p.prefix+name, storage.Match(first.Rev))); err != nil {
		return err
	}
	if err := p.holds(ctx, name, 0, -1, []byte("another")); err != nil {
		return err
	}
	if err := p.Driver.Delete(ctx, p.prefix+name, storage.Match(second.Rev)); err != nil {
		return err
	}
	return p.gone(ctx, name)
}

func (p *probe) delete(ctx context.Context) error {
	if err := p.Driver.Delete(ctx, p.prefix+"a", storage.Cond{}); err != nil {
		return err
	}
	return p.gone(ctx, "a")
}

func (p *probe) gone(ctx context.Context, name string) error {
	_, err := p.Stat(ctx, p.prefix+name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = errors.New("it is there after it was deleted")
	}
	return err
}

// clean removes all that may be there, also what stands for an object deleted under a condition, and when the probe was
// interrupted.
func (p *probe) clean(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stepLimit)
	defer cancel()
	var errs []error
	for _, key := range p.keys {
		errs = append(errs, p.Driver.Delete(ctx, key, storage.Cond{}))
	}
	for info, err := range p.List(ctx, p.prefix, "") {
		if err == nil {
			err = fmt.Errorf("%s stays", info.Key)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
