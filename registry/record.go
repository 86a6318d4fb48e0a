package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"time"

	"berth/storage"
)

// maxRecord bounds what is read of a record, in bytes: the largest are manifests and pages of referrers.
const maxRecord = 64 << 20

// errDamaged says that a record was read and is not what was written.
var errDamaged = errors.New("damaged")

// Every record is a line of JSON, its header, and then, for some kinds, a payload. The header carries a nonce, so that
// rewriting a record always changes its bytes and its revision.

// A record is a header; its nonce is set anew by every write.
type record interface{ renew() }

// A nonce is embedded in every header.
type nonce struct {
	Nonce string `json:"nonce"`
}

func (n *nonce) renew() { n.Nonce = randomHex(8) }

// encodeRecord renews the header and returns the bytes to write. Headers are structs of ours, which always encode.
func encodeRecord(header record, payload []byte) []byte {
	header.renew()
	line, err := json.Marshal(header)
	if err != nil {
		panic(fmt.Sprintf("registry: encode %T: %v", header, err))
	}
	return append(append(line, '\n'), payload...)
}

// decodeRecord fills header from a record and returns the payload, which shares its memory.
func decodeRecord(key string, body []byte, header record) ([]byte, error) {
	line, payload, found := bytes.Cut(body, []byte{'\n'})
	if !found {
		return nil, fmt.Errorf("the record %s is %w: its header does not end", key, errDamaged)
	}
	reflect.ValueOf(header).Elem().SetZero() // what the record leaves out must not stay from an earlier attempt
	if err := json.Unmarshal(line, header); err != nil {
		return nil, fmt.Errorf("the record %s is %w: %w", key, errDamaged, err)
	}
	return payload, nil
}

// read fills header from the record at key and returns its payload. Neither the payload nor what the header points at is
// to be changed: both may be shared. The error of one that is not what was written matches errDamaged; the info is then
// right, so that it can be replaced.
func read(ctx context.Context, d storage.Driver, key string, header record) ([]byte, storage.Info, error) {
	c, err := storage.ReadCopy(ctx, d, key, maxRecord)
	if err != nil {
		return nil, storage.Info{}, err
	}
	known, ok := c.Recall().(decoded)
	if !ok {
		known.payload, err = decodeRecord(key, c.Body, header)
		if err != nil {
			return nil, c.Info, err
		}
		known.header = reflect.New(reflect.TypeOf(header).Elem()).Elem()
		known.header.Set(reflect.ValueOf(header).Elem())
		c.Remember(known)
	}
	reflect.ValueOf(header).Elem().Set(known.header)
	return known.payload, c.Info, nil
}

// decoded is what is remembered of a record that is kept in memory.
type decoded struct {
	header  reflect.Value // never changed
	payload []byte
}

// put writes a record. A put whose outcome is ambiguous is settled by reading back: the nonce tells whether it landed. One by which
// this process learns that its clock is off has landed, and is an error: what it relied on as fresh may be gone.
func (r *Registry) put(ctx context.Context, key string, body []byte, cond storage.Cond) (storage.Info, error) {
	if err := r.checkClock(ctx); err != nil {
		return storage.Info{}, err
	}
	before := r.now()
	info, err := r.store.Put(ctx, key, bytes.NewReader(body), int64(len(body)), cond)
	if err != nil {
		return r.settle(ctx, storage.Object{Key: key, Body: body, Cond: cond}, err)
	}
	r.skew.observe(before, info.ModTime)
	return info, r.skew.err()
}

// putAll puts records in order and returns how many were put. It stops at the first error that is not settled by
// reading back. As with put, an error may say that the clock is off, when all were put.
func (r *Registry) putAll(ctx context.Context, objects ...storage.Object) (int, error) {
	if err := r.checkClock(ctx); err != nil {
		return 0, err
	}
	for done := 0; ; {
		before := r.now()
		infos, err := storage.PutAll(ctx, r.store, objects[done:]...)
		done += len(infos)
		for _, info := range infos {
			r.skew.observe(before, info.ModTime)
		}
		if err == nil {
			return done, r.skew.err()
		}
		if _, err = r.settle(ctx, objects[done], err); err != nil {
			return done, err
		}
		if done++; done == len(objects) {
			return done, r.skew.err()
		}
	}
}

// settle decides about a put that answered err: nil when the object is there all the same, else err.
func (r *Registry) settle(ctx context.Context, o storage.Object, err error) (storage.Info, error) {
	if !errors.Is(err, storage.ErrConflict) && !errors.Is(err, storage.ErrUnavailable) {
		return storage.Info{}, err
	}
	body, info, readErr := storage.ReadAll(ctx, r.store, o.Key, maxRecord)
	if readErr == nil && bytes.Equal(body, o.Body) {
		return info, nil
	}
	return storage.Info{}, err
}

// remove deletes the record at key as it is now, and reports whether there was one. It never deletes without a condition: a call
// that was given up and repeated may take effect long after, and must not meet what was written since.
func (r *Registry) remove(ctx context.Context, key string) (existed bool, err error) {
	for attempt := 0; ; attempt++ {
		info, statErr := r.store.Stat(ctx, key)
		switch {
		case isAbsent(statErr) && existed: // a reply was lost, or others could not be told
			return existed, r.tell(ctx)
		case isAbsent(statErr):
			return existed, nil
		case statErr != nil:
			return existed, statErr
		case errors.Is(err, storage.ErrUnavailable):
			return existed, err
		}
		existed = true
		err = r.store.Delete(ctx, key, storage.Match(info.Rev))
		if err == nil || !isConflict(err) && !errors.Is(err, storage.ErrUnavailable) {
			return existed, err
		}
		if err := pause(ctx, attempt); err != nil {
			return existed, err
		}
	}
}

// tell has every process that shares the store forget what it keeps in memory of it, as a deletion that succeeds does.
func (r *Registry) tell(ctx context.Context) error {
	text := []byte(randomHex(16))
	_, err := r.store.Put(ctx, EpochKey, storage.NewContent(text), int64(len(text)), storage.Cond{})
	if err != nil {
		return fmt.Errorf("tell other processes of a change: %w", err)
	}
	return nil
}

// fresh reports whether a record was touched recently enough to rely on it without rewriting it.
func (r *Registry) fresh(info storage.Info) bool { return r.fresherThan(info, r.grace/4) }

func (r *Registry) fresherThan(info storage.Info, age time.Duration) bool {
	return r.now().Sub(info.ModTime) <= age
}

// rely is read for a caller that is about to depend on the record: one that was last touched more than a quarter of the
// grace ago is rewritten, so that no collection now under way can delete it. The error of an absent record matches
// fs.ErrNotExist. In read-only mode, which a request under way may meet, it is an error that it would have to be rewritten.
func (r *Registry) rely(ctx context.Context, key string, header record) ([]byte, storage.Info, error) {
	for attempt := 0; ; attempt++ {
		payload, info, err := read(ctx, r.store, key, header)
		if err != nil || r.fresh(info) {
			return payload, info, err
		}
		if r.readOnly() {
			return payload, info, fmt.Errorf("renew %s: %w", key, storage.ErrReadOnly)
		}
		touched, err := r.put(ctx, key, encodeRecord(header, payload), storage.Match(info.Rev))
		if err == nil {
			return payload, touched, nil
		}
		if !isConflict(err) {
			return payload, info, err
		}
		if err := pause(ctx, attempt); err != nil {
			return payload, info, err
		}
	}
}

// inTime bounds how long records are relied upon: what was found fresh may be collected three quarters of the grace later.
func (r *Registry) inTime(ctx context.Context, do func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, r.grace/2)
	defer cancel()
	err := do(limited)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return &Error{Code: Unavailable, Message: "the registry took longer than half of gc.grace, try again", Err: err}
	}
	return err
}

// update changes a record by read, change and conditional put, until the put meets no other writer. change gets whether
// the record exists, its present payload and info, and returns the new payload, or keep to leave the record as it is.
func (r *Registry) update(ctx context.Context, key string, header record,
	change func(exists bool, payload []byte) (next []byte, keep bool, err error)) error {
	for attempt := 0; ; attempt++ {
		payload, info, err := read(ctx, r.store, key, header)
		cond := storage.Match(info.Rev)
		switch {
		case isAbsent(err):
			cond = storage.Absent()
			reflect.ValueOf(header).Elem().SetZero()
		case err != nil:
			return err
		}
		next, keep, err := change(!cond.IsAbsent(), payload)
		if err != nil || keep {
			return err
		}
		if _, err = r.put(ctx, key, encodeRecord(header, next), cond); !isConflict(err) {
			return err
		}
		if err := pause(ctx, attempt); err != nil {
			return err
		}
	}
}

// pause waits between attempts at a record that others write too: a moment that grows with the attempts, drawn by chance.
func pause(ctx context.Context, attempt int) error {
	if attempt < 2 {
		return ctx.Err()
	}
	limit := min(time.Millisecond<<min(attempt, 6), 50*time.Millisecond)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(rand.N(limit)):
		return nil
	}
}
