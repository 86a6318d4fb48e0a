package replicas

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"berth/registry"
	"berth/registry/gc"
	"berth/storage"
	"berth/tests/harness"
)

// What a collection is counted over: all of it fits into two pages of a listing, and garbage into two bulk deletions.
const (
	collectedManifests = 250
	blobsPerManifest   = 5
	collectedGarbage   = 1100
	page               = 1000
)

// TestCollectionCost counts the calls of collections at the wire: what a first one, and an unchanged second one, take for each
// manifest and blob, and what it takes to remove data objects. docs/performance.md has the bounds.
func TestCollectionCost(t *testing.T) {
	for name, open := range drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var wire *harness.Wire
			store, err := open(t, func(next http.RoundTripper) http.RoundTripper {
				wire = harness.NewWire(next)
				return wire
			})
			must(t, err)
			must(t, fillBucket(t, store))
			const grace = 10 * time.Second // an eighth of it is more than a second, in which the clock of S3 stands still
			reg, err := registry.Open(t.Context(), store, &registry.Options{Grace: grace})
			must(t, err)
			collector := gc.New(store, reg, gc.Options{})
			time.Sleep(grace + 4*time.Second) // by the clock of the store
			const manifests, blobs = collectedManifests, collectedManifests * blobsPerManifest
			pages := 2*pagesOf(manifests+blobs) + 2*pagesOf(blobs)
			remove := collectedGarbage
			if name == "s3" { // elsewhere one call removes one object
				remove = pagesOf(collectedGarbage)
			}
			for _, run := range []struct {
				name string
				bar  cost
			}{
				{"first", cost{reads: manifests + blobs + 20, writes: remove + 20, lists: pages + pagesOf(blobs) + pagesOf(collectedGarbage) + 10}},
				{"second", cost{reads: 20, writes: 20, lists: pages + 10}},
			} {
				wire.Take()
				report, err := collector.Run(t.Context(), gc.RunOptions{})
				must(t, err)
				got, calls := counted(wire)
				removed, _ := report.Removed()
				t.Logf("%s: %v: %v for %d manifests and %d blobs, of which the report counts %d; %d objects removed", name, run.name, got, manifests, blobs, report.Calls, removed)
				if !got.within(run.bar) {
					t.Errorf("the %s collection took %v, which may take %v:\n%s", run.name, got, run.bar, strings.Join(calls[max(0, len(calls)-100):], "\n"))
				}
				if want := int64(collectedGarbage); report.Failed() > 0 || run.name == "first" && removed != want || run.name == "second" && removed != 0 {
					t.Errorf("it removed %d objects: %+v", removed, report)
				}
			}
		})
	}
}

func pagesOf(objects int) int { return (objects + page - 1) / page }

// fillBucket puts records as docs/design.md has them, and data objects that nothing names.
func fillBucket(t *testing.T, store storage.Driver) error {
	team, ctx := errgroup.WithContext(t.Context())
	team.SetLimit(16)
	put := func(key, content string) {
		team.Go(func() error {
			_, err := store.Put(ctx, key, strings.NewReader(content), int64(len(content)), storage.Cond{})
			return err
		})
	}
	const repository = "team/app"
	put("catalog/"+repository+"!", `{"nonce":"1"}`+"\n")
	for n := range collectedManifests {
		var described []string
		for i := range blobsPerManifest {
			content := fmt.Sprintf("blob %d of %d", i, n)
			hex := fmt.Sprintf("%x", sha256.Sum256([]byte(content)))
			described = append(described, fmt.Sprintf(`{"mediaType":"application/octet-stream","size":%d,"digest":"sha256:%s"}`, len(content), hex))
			put("blobs/sha256/"+hex[:2]+"/"+hex, fmt.Sprintf(`{"nonce":"1","size":%d}`+"\n%s", len(content), content))
			put("repositories/"+repository+"/_blobs/sha256/"+hex, fmt.Sprintf(`{"nonce":"1","size":%d}`+"\n", len(content)))
		}
		const kind = "application/vnd.oci.image.manifest.v1+json"
		body := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[%s]}`, kind, described[0], strings.Join(described[1:], ","))
		put(fmt.Sprintf("repositories/%s/_manifests/sha256/%x", repository, sha256.Sum256([]byte(body))), fmt.Sprintf(`{"nonce":"1","mediaType":%q}`+"\n%s", kind, body))
	}
	for n := range collectedGarbage {
		put(fmt.Sprintf("data/20260101/%d", n), "nobody's")
	}
	return team.Wait()
}
