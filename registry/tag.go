package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"berth/storage"
)

// maxHistory bounds how many earlier states a tag remembers.
const maxHistory = 32

// A tagRecord says which manifest a tag names. Its payload is a line of JSON: the tag's history, newest first.
type tagRecord struct {
	nonce
	tagState
}

// A tagState is what a tag names, or once named. The time tells people; it decides nothing.
type tagState struct {
	Push      string    `json:"push"` // of which push, by an id of its own
	Digest    string    `json:"digest"`
	MediaType string    `json:"mediaType"`
	Size      int64     `json:"size"`
	By        string    `json:"by,omitempty"`
	At        time.Time `json:"at"`
}

// A hintRecord, written before a tag, says that the tag may name a manifest: it leads from the manifest to its tags.
type hintRecord struct{ nonce }

func (p Repository) readTag(ctx context.Context, from storage.Driver, t Tag) (tagRecord, storage.Info, error) {
	var rec tagRecord
	_, info, err := read(ctx, from, p.tagKey(t), &rec)
	return rec, info, err
}

// A tagBefore is a tag as a push that wants to set it finds it.
type tagBefore struct {
	cond   storage.Cond // holds as long as it is so
	states []tagState   // newest first
	// superseded says that this very push set the tag, but lost the reply, and that another has set it since.
	superseded bool
}

// checkTag reads a tag. [PreconditionFailed] when the push asks for another state, [Denied] when it may not move the tag; a
// tag whose manifest is gone counts as absent.
func (p Repository) checkTag(ctx context.Context, t Tag, push ManifestPush) (tagBefore, error) {
	var rec tagRecord
	payload, info, err := read(ctx, p.store, p.tagKey(t), &rec)
	switch {
	case isAbsent(err) && len(push.IfMatch) > 0:
		return tagBefore{}, newError(PreconditionFailed, "the tag %s does not exist", t)
	case isAbsent(err):
		return tagBefore{cond: storage.Absent()}, nil
	case errors.Is(err, errDamaged) && !push.isCareful() && !p.keeps(t):
		return tagBefore{cond: storage.Match(info.Rev)}, nil // pushing a tag again heals it
	case err != nil:
		return tagBefore{}, storeError("read a tag", err)
	}
	var history []tagState
	if json.Unmarshal(payload, &history) != nil {
		history = nil // what is damaged is lost: where the tag is now, the header says
	}
	before := tagBefore{cond: storage.Match(info.Rev), states: append([]tagState{rec.tagState}, history...)}
	if i := slices.IndexFunc(before.states, func(s tagState) bool { return s.Push == push.id }); i >= 0 {
		before.superseded = i > 0
		return before, nil // the condition held when it was set
	}
	if err := p.checkCondition(ctx, t, Digest{rec.Digest}, push); err != nil {
		return before, err
	}
	return before, p.checkMove(ctx, t, rec.tagState, push)
}

// isCareful reports whether a push wants to know where a tag is that it moves.
func (push *ManifestPush) isCareful() bool {
	return push.IfAbsent || push.KeepTags || len(push.IfMatch) > 0
}

// checkCondition checks what a push asks of a tag that is at a digest.
func (p Repository) checkCondition(ctx context.Context, t Tag, at Digest, push ManifestPush) error {
	if !push.IfAbsent && len(push.IfMatch) == 0 {
		return nil
	}
	err := p.findManifest(ctx, at)
	switch {
	case err != nil && !isAbsent(err):
		return storeError("read a tag", err)
	case err != nil && len(push.IfMatch) > 0:
		return newError(PreconditionFailed, "the tag %s does not exist", t)
	case err == nil && push.IfAbsent:
		return newError(PreconditionFailed, "the tag %s exists: it is at %s", t, at)
	case err == nil && !slices.Contains(push.IfMatch, at):
		return newError(PreconditionFailed, "the tag %s is at %s", t, at)
	}
	return nil
}

// setTag puts the objects in first, the hint, and the tag: the last only if nobody else set it since it was checked.
func (p Repository) setTag(ctx context.Context, put *tagPut, m *Manifest, push ManifestPush, first []storage.Object) error {
	for attempt := 0; ; attempt++ {
		t, before := put.tag, put.before
		if put.before = nil; before == nil {
			now, err := p.checkTag(ctx, t, push)
			if err != nil {
				return err
			}
			before = &now
		}
		objects := slices.Clip(first)
		if !before.superseded {
			objects = append(objects, storage.Object{Key: p.hintKey(m.Digest, t), Body: encodeRecord(&hintRecord{}, nil)},
				storage.Object{Key: p.tagKey(t), Body: p.encodeTag(m, push, before.states), Cond: before.cond})
		}
		done, err := p.putAll(ctx, objects...)
		if err == nil || !isConflict(err) {
			return storeError("write a tag", err)
		}
		first = first[min(done, len(first)):]
		if err := pause(ctx, attempt); err != nil {
			return err
		}
	}
}

func (p Repository) encodeTag(m *Manifest, push ManifestPush, history []tagState) []byte {
	if len(history) > 0 && history[0].Digest == m.Digest.s {
		history = history[1:] // set again: no new state
	}
	past, err := json.Marshal(history[:min(len(history), maxHistory)])
	if err != nil {
		panic(fmt.Sprintf("registry: encode the history of a tag: %v", err)) // structs of ours always encode
	}
	now := p.now().UTC().Truncate(time.Millisecond)
	return encodeRecord(&tagRecord{tagState: tagState{push.id, m.Digest.s, m.MediaType, int64(len(m.Body)), push.By, now}}, past)
}

// DeleteTag removes a tag; the manifest stays. [ManifestUnknown] when there is no such tag, [Denied] when it is immutable.
func (p Repository) DeleteTag(ctx context.Context, t Tag) error {
	seen := false // it was there once: whoever removed it, it is removed
	for attempt := 0; ; attempt++ {
		rec, info, err := p.readTag(ctx, p.store, t)
		if errors.Is(err, errDamaged) && !p.keeps(t) {
			seen, err = true, p.store.Delete(ctx, p.tagKey(t), storage.Match(info.Rev))
		} else if err == nil {
			gone := p.findManifest(ctx, Digest{rec.Digest})
			if gone != nil && !isAbsent(gone) {
				return storeError("delete a tag", gone)
			}
			if gone == nil && p.keeps(t) {
				return p.refuse(t)
			}
			seen = seen || gone == nil
			err = p.store.Delete(ctx, p.tagKey(t), storage.Match(info.Rev))
		}
		switch {
		case isConflict(err):
		case err != nil && !isAbsent(err):
			return storeError("delete a tag", err)
		case !seen:
			return p.unknown(ctx, ManifestUnknown, "the repository %s has no tag %s", p.name, t)
		default:
			return nil
		}
		if err := pause(ctx, attempt); err != nil {
			return err
		}
	}
}

// hinted yields the tags that may name a manifest, as the hints have it. It stops at the first error.
func (p Repository) hinted(ctx context.Context, d Digest) iter.Seq2[Tag, error] {
	return func(yield func(Tag, error) bool) {
		prefix := p.hintPrefix(d)
		for key, err := range storage.Keys(ctx, p.store, prefix, "") {
			var t Tag
			if err == nil {
				t, err = ParseTag(strings.TrimPrefix(key, prefix))
			}
			if !yield(t, err) || err != nil {
				return
			}
		}
	}
}

// dropTags removes the tags that name a manifest, which the hints lead to. The hints stay for the collection: a push at
// the same time may be about to rely on one.
func (p Repository) dropTags(ctx context.Context, d Digest) error {
	for t, err := range p.hinted(ctx, d) {
		if err != nil {
			return err
		}
		if err := p.dropTag(ctx, t, d); err != nil {
			return err
		}
	}
	return nil
}

// dropTag removes a tag if it names d, and d is gone.
func (p Repository) dropTag(ctx context.Context, t Tag, d Digest) error {
	for attempt := 0; ; attempt++ {
		rec, info, err := p.readTag(ctx, p.store, t)
		if isAbsent(err) || err == nil && rec.Digest != d.s || errors.Is(err, errDamaged) {
			return nil // what a damaged one names is not known: it stays until it is pushed or deleted
		}
		if err == nil {
			if err = p.findManifest(ctx, d); err == nil {
				return nil // it was pushed again
			}
		}
		if !isAbsent(err) {
			return err
		}
		if err = p.store.Delete(ctx, p.tagKey(t), storage.Match(info.Rev)); !isConflict(err) {
			return err
		}
		if err := pause(ctx, attempt); err != nil {
			return err
		}
	}
}

// Tags lists the tags of p in byte order: up to n after the given one ("" for the first; n < 0: all), and whether there
// are more. [NameUnknown] when nothing was ever pushed to p.
func (p Repository) Tags(ctx context.Context, after string, n int) ([]string, bool, error) {
	tags := []string{}
	prefix := p.tagPrefix()
	for key, err := range storage.Keys(ctx, p.store, prefix, prefix+after) {
		if err != nil {
			return nil, false, storeError("list tags", err)
		}
		if n >= 0 && len(tags) == n {
			return tags, true, nil
		}
		tags = append(tags, key[len(prefix):])
	}
	if len(tags) == 0 {
		if err := p.unknown(ctx, ManifestUnknown, ""); CodeOf(err) != ManifestUnknown {
			return nil, false, err
		}
	}
	return tags, false, nil
}
