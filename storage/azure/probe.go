package azure

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"berth/storage"
	"berth/storage/remote"
)

// A probe tries what the driver relies on, with blobs under one name that it made up.
type probe struct {
	*Driver
	key  string
	body []byte
	etag azcore.ETag // of what the first name has
}

// probeNames end the names that a probe makes, in the order of their bytes, which is not that of folders.
func probeNames() []string {
	return []string{"/a!", "/a-b", "/a.b", "/a/b", "/a0", "/aB", "/a_", "/ab"}
}

// dotName ends in a dot, which some services drop.
const dotName = "/z."

func (d *Driver) probe(ctx context.Context) error {
	id := strings.ToLower(rand.Text())
	p := &probe{Driver: d, key: d.name("probe/" + id), body: []byte("made when Berth was started, to try the container: " + id)}
	if err := p.reach(ctx); err != nil {
		return err
	}
	defer p.clean(ctx)
	for _, step := range []func(context.Context) error{p.conditions, p.readBack, p.deletes, p.order} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	p.lookAround(ctx)
	return nil
}

// try runs f, again when that may help. The error is that of the last attempt as it is.
func (p *probe) try(ctx context.Context, f func(ctx context.Context) error) error {
	again := func(err error) bool {
		name, _ := code(err)
		return judge(err).Retry && name != bloberror.InvalidAuthenticationInfo && !isLogin(err)
	}
	return remote.Try(ctx, again, f)
}

// reach lists the container.
func (p *probe) reach(ctx context.Context) error {
	_, _, err := p.some(ctx, p.name(""), nil)
	return p.explain(err)
}

// some lists two blobs.
func (p *probe) some(ctx context.Context, prefix string, marker *string) (names []string, next *string, err error) {
	two := int32(2)
	options := &container.ListBlobsFlatOptions{Prefix: &prefix, MaxResults: &two, Marker: marker}
	err = p.try(ctx, func(ctx context.Context) error {
		out, err := p.client.NewListBlobsFlatPager(options).NextPage(ctx)
		if err != nil {
			return err
		}
		if out.Segment == nil {
			return errNotAzure
		}
		for _, found := range out.Segment.BlobItems {
			names = append(names, value(found.Name))
		}
		next = out.NextMarker
		return nil
	})
	return names, next, err
}

// put puts a blob under the end of a name.
func (p *probe) put(ctx context.Context, end string, conditions *blob.AccessConditions) error {
	return p.try(ctx, func(ctx context.Context) error {
		body := streaming.NopCloser(bytes.NewReader(p.body))
		out, err := p.client.NewBlockBlobClient(p.key+end).Upload(ctx, body, &blockblob.UploadOptions{AccessConditions: conditions})
		if err == nil {
			p.etag = value(out.ETag)
		}
		return err
	})
}

// wrongRev is that of no blob.
const wrongRev storage.Rev = `"0x1"`

// conditions tries a create, a create that must fail, a stale put that must fail, and a put under the right condition.
func (p *probe) conditions(ctx context.Context) error {
	first := probeNames()[0]
	if err := p.put(ctx, first, access(storage.Absent())); err != nil {
		return p.explain(err)
	}
	for _, cond := range []storage.Cond{storage.Absent(), storage.Match(wrongRev)} {
		if err := p.mustRefuse(p.put(ctx, first, access(cond))); err != nil {
			return err
		}
	}
	return p.explain(p.put(ctx, first, ifMatch(storage.Rev(p.etag))))
}

// mustRefuse wants an answer that says that a condition did not hold.
func (p *probe) mustRefuse(err error) error {
	if err == nil {
		return fmt.Errorf("storage.azure.%s: this service ignores conditions (If-None-Match, If-Match), without which changes overwrite each other", p.whereKey())
	}
	if judge(err).Class == storage.ErrConflict {
		return nil
	}
	return p.explain(err)
}

// readBack asks that what was put be there.
func (p *probe) readBack(ctx context.Context) error {
	var got []byte
	err := p.try(ctx, func(ctx context.Context) error {
		out, err := p.client.NewBlobClient(p.key+probeNames()[0]).DownloadStream(ctx, &blob.DownloadStreamOptions{Range: blob.HTTPRange{Offset: 5}})
		if err != nil {
			return err
		}
		defer out.Body.Close()
		got, err = io.ReadAll(io.LimitReader(out.Body, 1<<10))
		return err
	})
	if err == nil && !bytes.Equal(got, p.body[5:]) {
		err = errNotAzure
	}
	return p.explain(err)
}

// deletes tries a stale deletion, which must fail.
func (p *probe) deletes(ctx context.Context) error {
	return p.mustRefuse(p.try(ctx, func(ctx context.Context) error {
		_, err := p.client.NewBlobClient(p.key+probeNames()[0]).Delete(ctx, &blob.DeleteOptions{AccessConditions: ifMatch(wrongRev)})
		return err
	}))
}

// order lists the blobs by pages of two. It finds out whether names may end in a dot, too.
func (p *probe) order(ctx context.Context) error {
	names := probeNames()
	for _, end := range names[1:] {
		if err := p.put(ctx, end, nil); err != nil {
			return p.explain(err)
		}
	}
	err := p.put(ctx, dotName, nil)
	if _, status := code(err); status != http.StatusBadRequest && err != nil {
		return p.explain(err)
	}
	var got []string
	for marker := (*string)(nil); len(got) <= len(names)+1; {
		some, next, err := p.some(ctx, p.key, marker)
		if err != nil {
			return p.explain(err)
		}
		for _, name := range some {
			got = append(got, strings.TrimPrefix(name, p.key))
		}
		if marker = next; value(next) == "" {
			break
		}
	}
	if p.dotless = !slices.Contains(got, dotName); p.dotless {
		p.o.Warn("storage.azure: this service drops a dot at the end of a name: tags that end in a dot are refused")
	}
	got = slices.DeleteFunc(got, func(name string) bool { return strings.HasPrefix(name, "/z") })
	if !slices.Equal(got, names) {
		return fmt.Errorf("storage.azure.accountname: this account lists %q as %q, as one with a hierarchical namespace does: Berth needs the "+
			"order of bytes; use an account without one", names, got)
	}
	return nil
}

// clean removes the blobs of the probe, as far as it can. A warning says what cannot.
func (p *probe) clean(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), remote.ProbeWithin)
	defer cancel()
	for _, end := range append(probeNames(), dotName, strings.TrimSuffix(dotName, ".")) {
		_, err := p.client.NewBlobClient(p.key+end).Delete(ctx, nil)
		if name, status := code(err); err != nil && name != bloberror.BlobNotFound && status != http.StatusBadRequest {
			p.o.Warn(fmt.Sprintf("storage.azure: the probe could not be removed, nothing else will be: %v", brief(err)))
			return
		}
	}
}

// lookAround warns of what is amiss with the container.
func (p *probe) lookAround(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, remote.ProbeWithin)
	defer cancel()
	if properties, err := p.client.GetProperties(ctx, nil); err == nil && value(properties.BlobPublicAccess) != "" {
		p.o.Warn("storage.azure.container: it is public: anybody can read it, whatever Berth allows")
	}
	if _, err := p.SignedURL(ctx, "probe/x", time.Minute); errors.Is(err, errors.ErrUnsupported) {
		p.o.Warn("storage.azure: this identity may not sign URLs, so that nobody is redirected; it needs the role Storage Blob Delegator")
	}
}
