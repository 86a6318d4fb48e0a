package registry

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"berth/storage"
)

// PurgeResult counts what a purge of uploads did.
type PurgeResult struct {
	Uploads int
	Bytes   int64
}

// PurgeUploads removes the uploads that were last touched more than olderThan ago: what they received, unless it became
// a blob, and their records; and what the driver keeps of bodies as old as that, and older than the grace. A dry run only counts.
// Read-only mode ends it with the upload that it is at. It is harmless in several replicas at once, and beside any request.
func (r *Registry) PurgeUploads(ctx context.Context, olderThan time.Duration, dryRun bool) (PurgeResult, error) {
	if dryRun {
		return r.purgeUploads(ctx, r.now().Add(-olderThan), true)
	}
	now, _, err := r.StoreTime(ctx)
	if err != nil {
		return PurgeResult{}, err
	}
	if err := r.skew.err(); err != nil { // such a clock takes what clients are sending for old
		return PurgeResult{}, storeError("purge uploads", err)
	}
	result, err := r.purgeUploads(ctx, now.Add(-olderThan), false)
	if err == nil && !r.readOnly() {
		_, _, err = r.Tidy(ctx, now.Add(-max(olderThan, r.grace)))
	}
	return result, err
}

// purgeUploads purges those that were last touched before a time, by the clock of the store.
func (r *Registry) purgeUploads(ctx context.Context, before time.Time, dryRun bool) (PurgeResult, error) {
	var result PurgeResult
	var damaged error // which keeps nothing else from being purged
	for info, err := range r.store.List(ctx, uploadPrefix, "") {
		if err != nil {
			return result, storeError("list uploads", err)
		}
		if !dryRun && r.readOnly() {
			break
		}
		if !info.ModTime.Before(before) {
			continue
		}
		err := r.purgeUpload(ctx, info.Key, before, dryRun, &result)
		if errors.Is(err, errDamaged) {
			damaged = errors.Join(damaged, err)
		} else if err != nil {
			return result, storeError("purge an upload", err)
		}
	}
	return result, storeError("purge uploads", damaged)
}

// purgeUpload claims an upload by cancelling it, so that no request can make a blob of it, before its data goes.
func (r *Registry) purgeUpload(ctx context.Context, key string, before time.Time, dryRun bool, result *PurgeResult) error {
	var rec uploadRecord
	_, info, err := read(ctx, r.store, key, &rec)
	if isAbsent(err) || err == nil && !info.ModTime.Before(before) {
		return nil
	}
	if err != nil {
		return err
	}
	if rec.State == uploadClosed {
		if r.fresherThan(info, r.grace) {
			return nil // a request may be about to make the blob of it
		}
		rec.Segments, rec.Offset, rec.Pending = nil, 0, "" // they may be those of a blob
	}
	result.Uploads++
	result.Bytes += rec.Offset
	if dryRun {
		return nil
	}
	if rec.State == uploadOpen {
		rec.State = uploadCancelled
		cancelled, err := r.put(ctx, key, encodeRecord(&rec, nil), storage.Match(info.Rev))
		switch {
		case err == nil:
			info = cancelled
		case errors.Is(err, storage.ErrNoSpace): // to remove the record is a claim, too; cut short then, the rest is the collection's
			err = r.store.Delete(ctx, key, storage.Match(info.Rev))
		}
		if err != nil {
			return ignoreConflict(err) // it was touched meanwhile
		}
	}
	for _, s := range append(slices.Clip(rec.Segments), segment{Key: rec.Pending}) {
		if s.Key == "" {
			continue
		}
		if err := r.store.Delete(ctx, s.Key, storage.Cond{}); err != nil {
			return err
		}
	}
	return ignoreConflict(r.store.Delete(ctx, key, storage.Match(info.Rev)))
}

// Tidy has the driver remove what calls that were cut short before a time left behind where no listing shows it, and returns how
// many there were and their bytes, as far as known. What an upload names stays: its body may be on its way. A time less than the
// grace ago would also meet bodies that no upload names yet.
func (r *Registry) Tidy(ctx context.Context, before time.Time) (n int, bytes int64, err error) {
	t, ok := storage.As[storage.Tidier](r.store)
	if !ok {
		return 0, 0, nil
	}
	named := sync.OnceValues(func() (map[string]bool, error) { return r.namedByUploads(ctx) })
	var unread error
	n, bytes, err = t.Tidy(ctx, before, func(key string) (keep bool) {
		keys, err := named()
		unread = err
		return err != nil || keys[key]
	})
	return n, bytes, storeError("remove what uploads left", cmp.Or(err, unread))
}

// namedByUploads returns the data objects that uploads name.
func (r *Registry) namedByUploads(ctx context.Context) (map[string]bool, error) {
	named := map[string]bool{}
	for info, err := range r.store.List(ctx, uploadPrefix, "") {
		if err != nil {
			return nil, err
		}
		var rec uploadRecord
		if _, _, err := read(ctx, r.store, info.Key, &rec); isAbsent(err) {
			continue
		} else if err != nil {
			return nil, err
		}
		for _, s := range append(slices.Clip(rec.Segments), segment{Key: rec.Pending}) {
			named[s.Key] = true
		}
	}
	return named, nil
}

func ignoreConflict(err error) error {
	if isConflict(err) {
		return nil
	}
	return err
}

// OpenUploads counts the uploads that were begun and neither finished nor cancelled. It looks at no more than max records,
// and tells whether there are more.
func (r *Registry) OpenUploads(ctx context.Context, max int) (open int, more bool, err error) {
	seen := 0
	for info, err := range r.store.List(ctx, uploadPrefix, "") {
		if err != nil {
			return open, false, storeError("list uploads", err)
		}
		if seen++; seen > max {
			return open, true, nil
		}
		var rec uploadRecord
		if _, _, err := read(ctx, r.reads, info.Key, &rec); err != nil && !isAbsent(err) && !errors.Is(err, errDamaged) {
			return open, false, storeError("count uploads", err)
		}
		if rec.State == uploadOpen {
			open++
		}
	}
	return open, false, nil
}
