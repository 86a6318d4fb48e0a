package gc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"time"

	"berth/registry"
	"berth/storage"
)

// maxRecord bounds what is read of a record, in bytes.
const maxRecord = 64 << 20

// A verdict is what is to happen to an object that nothing reaches.
type verdict struct {
	why   string
	bytes int64
	keep  bool
}

// An inspector reads a candidate and says what is to happen to it.
type inspector func(ctx context.Context, info storage.Info) (verdict, storage.Info, error)

// sweep removes those of the records that are not reached and old: each is looked at in the store, and removed only if
// it is then as it was seen.
func (r *run) sweep(ctx context.Context, l *Layer, records iter.Seq2[storage.Info, error], reached func(key string) bool,
	inspect inspector) error {
	team, ctx := r.team(ctx)
	look := r.sweeping(l, reached, inspect)
	for info, err := range records {
		if err == nil {
			err = look(ctx, team, info)
		}
		if err != nil {
			return errors.Join(err, team.Wait())
		}
	}
	return team.Wait()
}

// sweeping returns what a sweep does with each record.
func (r *run) sweeping(l *Layer, reached func(key string) bool, inspect inspector) func(context.Context, team, storage.Info) error {
	return func(ctx context.Context, t team, info storage.Info) error {
		l.count(&l.Examined, 1)
		if reached(info.Key) {
			return nil
		}
		return t.do(func() error { return r.remove(ctx, l, info, inspect) })
	}
}

// ranges are the beginnings of the parts in which blob records are listed: of many, where a listing reads one folder after
// another, and of one, where it is a call for every thousand.
func (r *run) ranges() []string {
	starts := []string{""}
	if r.c.local() {
		for _, digit := range "123456789abcdef" {
			starts = append(starts, registry.BlobPrefix+string(registry.SHA256)+"/"+string(digit))
		}
	}
	return starts
}

// inRanges lists the blob records in parts, by several goroutines.
func (r *run) inRanges(ctx context.Context, list func(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error],
	see func(ctx context.Context, t team, info storage.Info) error) error {
	team, ctx := r.team(ctx)
	starts := r.ranges()
	for i, after := range starts {
		err := team.do(func() error {
			for info, err := range list(ctx, registry.BlobPrefix, after) {
				if i+1 < len(starts) && info.Key > starts[i+1] {
					return nil
				}
				if err == nil {
					err = see(ctx, team, info)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return errors.Join(err, team.Wait())
		}
	}
	return team.Wait()
}

// candidates lists a prefix: with times where those are for free, and otherwise keys alone.
func (r *run) candidates(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	if !r.c.local() {
		return r.scan.List(ctx, prefix, after)
	}
	return func(yield func(storage.Info, error) bool) {
		for key, err := range storage.Keys(ctx, r.scan, prefix, after) {
			if !yield(storage.Info{Key: key}, err) {
				return
			}
		}
	}
}

// innermost returns the driver at the end of a chain of decorators.
func innermost(d storage.Driver) storage.Driver {
	for {
		w, ok := d.(interface{ Unwrap() storage.Driver })
		if !ok {
			return d
		}
		d = w.Unwrap()
	}
}

// remove removes one record, if it is still as old as it must be. What fails is noted, and left for the next run.
func (r *run) remove(ctx context.Context, l *Layer, info storage.Info, inspect inspector) error {
	limit := r.limit(l)
	if !info.ModTime.IsZero() && !info.ModTime.Before(limit) {
		l.count(&l.Young, 1)
		return nil
	}
	v, info, err := inspect(ctx, info)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return r.failed(ctx, l, err)
	case !info.ModTime.Before(limit):
		l.count(&l.Young, 1)
		return nil
	case v.keep:
		return nil
	}
	if !r.dry {
		err := r.store.Delete(ctx, info.Key, storage.Match(info.Rev))
		if errors.Is(err, storage.ErrConflict) {
			l.count(&l.Changed, 1)
			return nil
		}
		if err != nil {
			return r.failed(ctx, l, err)
		}
	}
	r.removed(l, Finding{Key: info.Key, Why: v.why, Touched: info.ModTime, Bytes: v.bytes})
	return nil
}

func (r *run) removed(l *Layer, f Finding) {
	f.Layer = l.Name
	l.count(&l.Removed, 1)
	l.count(&l.Bytes, f.Bytes)
	if !r.dry {
		r.gone.Add(1)
	}
	r.doom(f.Key)
	r.found(f)
}

// failed notes an error, unless it is the end of the run.
func (r *run) failed(ctx context.Context, l *Layer, err error) error {
	if ends(ctx, err) {
		return err
	}
	l.problem(err)
	return nil
}

// ends reports whether an error ends the run, and not only what met it.
func ends(ctx context.Context, err error) bool {
	_, clock := errors.AsType[*ClockError](err)
	return ctx.Err() != nil || clock || errors.Is(err, ErrPaused)
}

// stat is an inspector for records whose content says nothing. What a listing tells is as good: the revision must match.
func (r *run) stat(why string) inspector {
	return func(ctx context.Context, info storage.Info) (verdict, storage.Info, error) {
		if info.Rev != "" {
			return verdict{why: why}, info, nil
		}
		info, err := r.store.Stat(ctx, info.Key)
		return verdict{why: why}, info, err
	}
}

// unless returns an inspector that keeps what the second look reaches, by the hash of what is reached.
func (r *run) unless(l *Layer, again *second, hash func(key string) uint64, inspect inspector) inspector {
	return func(ctx context.Context, info storage.Info) (verdict, storage.Info, error) {
		v, info, err := inspect(ctx, info)
		if err != nil || v.keep || !info.ModTime.Before(r.limit(l)) {
			return v, info, err
		}
		reached, err := again.take()
		v.keep = err == nil && reached.has(hash(info.Key))
		return v, info, err
	}
}

// blobs sweeps the blob records that no link of any repository leads to, and the entries of the catalog whose repository
// has nothing left.
func (r *run) blobs(ctx context.Context, l *Layer) error {
	reached, err := r.markLinks(ctx)
	if err != nil {
		return err
	}
	again := lookAgain(func() (*marks, error) { return r.markLinks(ctx) })
	catalog := r.newLayer("catalog", l.Start)
	name := func(key string) uint64 { return r.c.memo.hash(registry.ParseKey(key).Repository) }
	if err := r.sweep(ctx, catalog, r.candidates(ctx, registry.CatalogPrefix, ""), func(key string) bool {
		return reached.has(name(key))
	}, r.unless(catalog, again, name, r.stat("the repository has nothing left"))); err != nil {
		return err
	}
	digest := func(key string) uint64 { return r.c.memo.hash(registry.ParseKey(key).Digest.String()) }
	return r.inRanges(ctx, r.candidates, r.sweeping(l, func(key string) bool {
		return registry.ParseKey(key).Kind != registry.BlobKind || reached.has(digest(key))
	}, r.unless(l, again, digest, r.inspectBlob)))
}

// markLinks marks the digests that are linked, and the names of repositories that have links or manifests. No name is a digest.
func (r *run) markLinks(ctx context.Context) (*marks, error) {
	reached := newMarks()
	hash := r.c.memo.hash
	for key, err := range storage.Keys(ctx, r.scan, registry.RepositoryPrefix, "") {
		if err != nil {
			return nil, fmt.Errorf("list what links blobs: %w", err)
		}
		k := registry.ParseKey(key)
		switch {
		case k.Repository == "" || r.isDoomed(key):
			continue
		case k.Kind == registry.LinkKind:
			reached.add(hash(k.Digest.String()))
		}
		if k.Kind == registry.LinkKind || k.Kind == registry.ManifestKind {
			reached.add(hash(k.Repository))
		}
	}
	return reached, nil
}

// inspectBlob tells notes that a blob is refused from other records. One that cannot be understood may go.
func (r *run) inspectBlob(ctx context.Context, info storage.Info) (verdict, storage.Info, error) {
	body, info, err := storage.ReadAll(ctx, r.scan, info.Key, maxRecord)
	if err != nil {
		return verdict{}, info, err
	}
	v := verdict{why: "no repository links the blob"}
	if parts, err := registry.ReadBlobRecord(info.Key, body); err == nil {
		v.keep = parts.Refused
		if len(parts.Data) == 0 {
			v.bytes = parts.Size
		}
	}
	return v, info, nil
}

// uploads sweeps the records of uploads that are over, or idle for too long.
func (r *run) uploads(ctx context.Context, l *Layer) error {
	idle, expired := r.limit(l), r.limit(l)
	if older := l.Start.Add(-r.c.o.UploadAge); older.Before(idle) {
		idle = older
	}
	if older := l.Start.Add(-r.registry.UploadAge()); older.Before(expired) {
		expired = older
	}
	return r.sweep(ctx, l, r.candidates(ctx, registry.UploadPrefix, ""), func(string) bool { return false },
		func(ctx context.Context, info storage.Info) (verdict, storage.Info, error) {
			body, info, err := storage.ReadAll(ctx, r.scan, info.Key, maxRecord)
			if err != nil {
				return verdict{}, info, err
			}
			parts, err := registry.ReadUploadRecord(info.Key, body)
			switch {
			case err != nil && !info.ModTime.Before(expired):
				return verdict{}, info, err
			case err != nil: // nobody can go on with it, and what it may name could never go
				return verdict{why: "the record of the upload is damaged, and old"}, info, nil
			case parts.Cancelled:
				return verdict{why: "the upload was cancelled", keep: !info.ModTime.Before(expired)}, info, nil // lest its id mean a new one
			case !parts.Open:
				return verdict{why: "the upload became a blob"}, info, nil
			}
			keep := r.c.o.UploadAge <= 0 || !info.ModTime.Before(idle)
			return verdict{why: "the upload was idle for too long", keep: keep}, info, nil
		})
}

// data sweeps the data objects that no upload and no blob record names.
func (r *run) data(ctx context.Context, l *Layer) error {
	named, err := r.markData(ctx, l)
	if err != nil {
		return err
	}
	return r.sweepData(ctx, l, named, lookAgain(func() (*marks, error) { return r.markData(ctx, l) }))
}

// markData marks the data objects that are named. Uploads are read before blob records, so that what goes from one to the other
// is seen in one of them.
func (r *run) markData(ctx context.Context, l *Layer) (*marks, error) {
	named := newMarks()
	if err := r.markUploads(ctx, named); err != nil {
		return nil, fmt.Errorf("read what uploads name: %w", err)
	}
	if err := r.markBlobs(ctx, l, named); err != nil {
		return nil, fmt.Errorf("read what blob records name: %w", err)
	}
	return named, nil
}

func (r *run) markUploads(ctx context.Context, named *marks) error {
	for info, err := range r.scan.List(ctx, registry.UploadPrefix, "") {
		if err != nil {
			return err
		}
		if r.isDoomed(info.Key) {
			continue
		}
		body, _, err := storage.ReadAll(ctx, r.scan, info.Key, maxRecord)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		parts, err := registry.ReadUploadRecord(info.Key, body)
		if err != nil {
			return err
		}
		if !parts.Cancelled { // nothing is ever made of a cancelled one
			for _, key := range parts.Data {
				named.add(r.c.memo.hash(key))
			}
		}
	}
	return nil
}

// settled is how old a record must be for its time to tell its content from later ones: times may be as coarse as seconds.
const settled = 3 * time.Second

func (r *run) markBlobs(ctx context.Context, l *Layer, named *marks) error {
	reads := newReads(named)
	list := r.scan.List
	if !r.c.known.Swap(true) { // then times are of no use
		list = r.candidates
	}
	return r.inRanges(ctx, list, func(ctx context.Context, t team, info storage.Info) error {
		if r.isDoomed(info.Key) {
			return nil
		}
		if known, ok := r.c.memo.get(r.blobKey(info)); ok {
			reads.add(known)
			return nil
		}
		return t.do(func() error {
			read, names, err := r.readBlob(ctx, info.Key)
			if err != nil {
				return ignoreGone(err)
			}
			if info.ModTime.IsZero() { // its key alone was listed; elsewhere reads may tell the time less exactly
				info = read
			}
			if info.ModTime.Before(l.Start.Add(-settled)) {
				r.c.memo.put(r.blobKey(info), names)
			}
			reads.add(names)
			return nil
		})
	})
}

func (r *run) blobKey(info storage.Info) memoKey {
	return r.c.memo.key(info.Key, info.ModTime.UnixNano(), info.Size)
}

// readBlob returns the hashes of the data objects that a blob record names.
func (r *run) readBlob(ctx context.Context, key string) (storage.Info, []uint64, error) {
	body, info, err := storage.ReadAll(ctx, r.scan, key, maxRecord)
	if err != nil {
		return info, nil, err
	}
	parts, err := registry.ReadBlobRecord(key, body)
	names := make([]uint64, len(parts.Data))
	for i, data := range parts.Data {
		names[i] = r.c.memo.hash(data)
	}
	return info, names, err
}

// bulk is how many data objects are removed by one call.
const bulk = 1000

func (r *run) sweepData(ctx context.Context, l *Layer, named *marks, again *second) error {
	team, ctx := r.team(ctx)
	batch := []storage.Info{}
	flush := func() error {
		full := batch
		if batch = nil; len(full) == 0 {
			return nil
		}
		return team.do(func() error { return r.removeData(ctx, l, full, again) })
	}
	for info, err := range r.candidates(ctx, registry.DataPrefix, "") {
		garbage := false
		if err == nil {
			info, garbage, err = r.isGarbage(ctx, l, named, info)
		}
		if garbage {
			batch = append(batch, info)
		}
		if len(batch) >= r.batchSize() {
			err = flush()
		}
		if err != nil {
			return errors.Join(err, team.Wait())
		}
	}
	return errors.Join(flush(), team.Wait())
}

// isGarbage reports whether a data object is to be removed, and describes it.
func (r *run) isGarbage(ctx context.Context, l *Layer, named *marks, info storage.Info) (storage.Info, bool, error) {
	l.count(&l.Examined, 1)
	if named.has(r.c.memo.hash(info.Key)) {
		return info, false, nil
	}
	if info.ModTime.IsZero() { // its key alone was listed
		var err error
		if info, err = r.store.Stat(ctx, info.Key); err != nil {
			return info, false, ignoreGone(err)
		}
	}
	if !info.ModTime.Before(r.limit(l)) {
		l.count(&l.Young, 1)
		return info, false, nil
	}
	return info, true, nil
}

// batchSize is that of bulk deletion where there is one, and otherwise small enough for the workers to share the work.
func (r *run) batchSize() int {
	if _, ok := storage.As[storage.BulkDeleter](r.c.store); ok {
		return bulk
	}
	return 16
}

// removeData removes data objects that the second look does not find either. They are written once, under keys that are nobody
// else's, so there is nothing to match.
func (r *run) removeData(ctx context.Context, l *Layer, infos []storage.Info, again *second) error {
	named, err := again.take()
	if err != nil {
		return r.failed(ctx, l, err)
	}
	infos = slices.DeleteFunc(infos, func(info storage.Info) bool { return named.has(r.c.memo.hash(info.Key)) })
	if len(infos) == 0 {
		return nil
	}
	if !r.dry {
		keys := make([]string, len(infos))
		for i := range infos {
			keys[i] = infos[i].Key
		}
		if err := storage.DeleteAll(ctx, r.store, keys...); err != nil {
			return r.failed(ctx, l, err)
		}
	}
	for _, info := range infos {
		r.removed(l, Finding{Key: info.Key, Why: "no blob and no upload has these bytes", Touched: info.ModTime, Bytes: info.Size})
	}
	return nil
}
