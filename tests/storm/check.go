package storm

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"berth/tests/content"
	"berth/tests/harness"
)

// Check reads all that the ledger knows of and compares: what was acknowledged is there and hashes right, what was not
// is there whole or not at all, tags are at values that they may have, manifests have their blobs, uploads go on where
// they were. What it finds is entered, and must be the same the next time.
func (l *Ledger) Check(over ...*harness.Client) error {
	k := &checker{ledger: l, over: &replicas{clients: over}, intact: map[string]bool{}}
	for u := range l.uploads {
		k.fail(k.resume(u))
		delete(l.uploads, u)
	}
	k.each(l.order, k.check)
	k.fail(k.lists())
	l.forget()
	if len(k.errs) > 20 {
		k.errs = append(k.errs[:20], fmt.Errorf("and %d more", len(k.errs)-20))
	}
	return errors.Join(k.errs...)
}

// A checker is one run of [Ledger.Check].
type checker struct {
	ledger *Ledger
	over   *replicas

	mu     sync.Mutex
	errs   []error
	intact map[string]bool // blobs that were read whole
}

func (k *checker) fail(err error) {
	if err != nil {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.errs = append(k.errs, err)
	}
}

// each checks things, several at a time.
func (k *checker) each(things []thing, check func(thing) error) {
	var wg sync.WaitGroup
	queue := make(chan thing)
	for range 8 {
		wg.Go(func() {
			for t := range queue {
				k.fail(check(t))
			}
		})
	}
	for _, t := range things {
		queue <- t
	}
	close(queue)
	wg.Wait()
}

func (k *checker) check(t thing) error {
	begun := k.ledger.tick()
	value, err := k.read(t)
	if err != nil {
		return err
	}
	k.ledger.mu.Lock()
	may := possible(k.ledger.things[t])
	k.ledger.mu.Unlock()
	if t.kind == tags && t.repo == shared {
		k.ledger.saw(t, value, begun)
		if why := Contradiction(k.ledger.history(t)); why != "" {
			k.fail(fmt.Errorf("the tag %s of %s was not one register: %s", t.name, t.repo, why))
		}
	}
	collected := k.ledger.o.Collected && t.kind == blobs && value == ""
	if !slices.Contains(may, value) && !collected {
		return fmt.Errorf("%s %s of %s is %q, and may only be one of %q", t.kind, t.name, t.repo, value, may)
	}
	k.ledger.settle(t, value)
	return nil
}

// read returns what a thing is, after it was read whole.
func (k *checker) read(t thing) (string, error) {
	if t.kind == blobs {
		return k.blob(t.repo, t.name)
	}
	r, err := k.get(path(t.repo, "manifests", t.name))
	if err != nil || r.Status == 404 {
		return "", err
	}
	digest := r.Header.Get("Docker-Content-Digest")
	if got := content.DigestLike(digest, r.Body); got != digest || t.kind == manifests && t.name != digest {
		return "", fmt.Errorf("%s answered %s, with a body that has the digest %s", r.Call, digest, got)
	}
	return digest, k.children(t.repo, r.Body)
}

func (k *checker) get(at string) (*harness.Reply, error) {
	r, err := k.over.Do(harness.Call{Method: "GET", Path: at})
	if err != nil {
		return nil, err
	}
	return r, r.Want(200, 404)
}

// blob asks whether a repository has a blob, and reads each blob once in whole.
func (k *checker) blob(repo, digest string) (string, error) {
	r, err := k.over.Do(harness.Call{Method: "HEAD", Path: path(repo, "blobs", digest)})
	if err == nil {
		err = r.Want(200, 404)
	}
	if err != nil || r.Status == 404 {
		return "", err
	}
	k.mu.Lock()
	known := k.intact[digest]
	k.intact[digest] = true
	k.mu.Unlock()
	if !known {
		_, err = k.over.next().PullBlob(repo, digest)
	}
	return digest, err
}

// children checks that a manifest that is served has its blobs.
func (k *checker) children(repo string, body []byte) error {
	var m struct {
		Config content.Descriptor
		Layers []content.Descriptor
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return err
	}
	for _, d := range append(m.Layers, m.Config) {
		if found, err := k.blob(repo, d.Digest); err != nil {
			return err
		} else if found == "" {
			return fmt.Errorf("a manifest of %s is served, and its blob %s is not there", repo, d.Digest)
		}
	}
	return nil
}

// resume takes up an upload where the registry says it stands, and finishes it.
func (k *checker) resume(u *upload) error {
	r, err := k.over.Do(harness.Call{Method: "GET", Path: u.location})
	if err == nil {
		err = r.Want(204)
	}
	if err != nil {
		return fmt.Errorf("resume an upload of which %d bytes were acknowledged: %w", u.acked, err)
	}
	at := 0
	if last, ok := strings.CutPrefix(r.Header.Get("Range"), "0-"); !ok {
		return fmt.Errorf("%s answered the Range %q", r.Call, r.Header.Get("Range"))
	} else if last != "0" {
		if at, err = strconv.Atoi(last); err != nil {
			return err
		}
		at++
	}
	if at < u.acked || at > u.sent {
		return fmt.Errorf("an upload stands at %d: %d bytes were acknowledged, %d sent", at, u.acked, u.sent)
	}
	call := octets(u.blob.Bytes[at:])
	call.Method, call.Path, call.Query = "PUT", located(r), url.Values{"digest": {u.blob.Digest}}
	a := k.ledger.begin(u.blob.Digest, thing{blobs, u.repo, u.blob.Digest})
	if r, err = k.over.Do(call); err == nil {
		err = r.Want(201)
	}
	if err != nil {
		return fmt.Errorf("finish an upload that stood at %d of %d bytes: %w", at, len(u.blob.Bytes), err)
	}
	a.acked()
	return nil
}

// lists checks that what is there is listed, and that what is listed is there; or, if the registry never came to the end
// of deleting it, reads as absent.
func (k *checker) lists() error {
	there := map[string][]string{}
	for _, t := range k.ledger.order {
		if t.kind == tags && k.ledger.things[t][0].value != "" {
			there[t.repo] = append(there[t.repo], t.name)
		}
	}
	for repo, want := range there {
		var list struct{ Tags []string }
		r, err := k.get(path(repo, "tags/list"))
		if err == nil {
			err = json.Unmarshal(r.Body, &list)
		}
		if err != nil {
			return fmt.Errorf("list the tags of %s: %w", repo, err)
		}
		got := slices.DeleteFunc(list.Tags, func(tag string) bool { return k.ledger.halfway[thing{tags, repo, tag}] })
		if slices.Sort(want); !slices.Equal(got, want) {
			k.fail(fmt.Errorf("%s lists the tags %q, and has %q", repo, got, want))
		}
	}
	r, err := k.over.Do(harness.Call{Method: "GET", Path: "/v2/_catalog?n=1000"})
	if err != nil {
		return err
	}
	return r.Want(200)
}
