package gcs

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/auth"
	gcs "cloud.google.com/go/storage"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/iterator"

	"berth/storage"
	"berth/storage/remote"
)

// A probe tries what the driver relies on, with objects under one key that it made up.
type probe struct {
	*Driver
	key  string
	body []byte
}

// probeNames end the keys that a probe makes, in the order of their bytes, which is not that of folders.
func probeNames() []string { return []string{"/a!", "/a-b", "/a.b", "/a/b", "/a0"} }

func (d *Driver) probe(ctx context.Context) error {
	id := strings.ToLower(rand.Text())
	p := &probe{Driver: d, key: "probe/" + id, body: []byte("made when Berth was started, to try the bucket: " + id)}
	if err := p.reach(ctx); err != nil {
		return err
	}
	defer p.clean(ctx)
	made, err := p.create(ctx)
	if err != nil {
		return err
	}
	if err := p.conditions(ctx, made); err != nil {
		return err
	}
	if err := p.readBack(ctx); err != nil {
		return err
	}
	if err := p.order(ctx); err != nil {
		return err
	}
	if err := p.deletes(ctx, made); err != nil {
		return err
	}
	p.trySigning(ctx)
	p.lookAround(ctx)
	return nil
}

// try runs f, again when that may help. The error is that of the last attempt as it is.
func (p *probe) try(ctx context.Context, f func(ctx context.Context) error) error {
	return remote.Try(ctx, func(err error) bool {
		status, _ := answered(err)
		return judge(err).Retry && status != http.StatusUnauthorized
	}, f)
}

// reach lists the bucket, on the account of the project if the bucket wants one.
func (p *probe) reach(ctx context.Context) error {
	err := p.list(ctx)
	if _, reasons := answered(err); slices.Contains(reasons, "required") {
		if p.o.Project == "" {
			return errors.New("storage.gcs.projectid: must be given: those who ask this bucket pay for it")
		}
		p.bucket, p.paid = p.bucket.UserProject(p.o.Project), true
		err = p.list(ctx)
	}
	return p.explain("storage.objects.list", err)
}

func (p *probe) list(ctx context.Context) error {
	return p.try(ctx, func(ctx context.Context) error {
		_, err := p.bucket.Objects(ctx, &gcs.Query{Prefix: p.name("")}).Next()
		if errors.Is(err, iterator.Done) {
			return nil
		}
		return err
	})
}

// put puts an object of the probe, under the key and the end of a name.
func (p *probe) put(ctx context.Context, end string, cond storage.Cond) (info storage.Info, err error) {
	err = p.try(ctx, func(ctx context.Context) error {
		object, _ := under(p.object(p.key+end), cond)
		w := p.writer(ctx, object)
		_, err := w.Write(p.body)
		if closing := w.Close(); err == nil {
			err = closing
		}
		if err == nil {
			info, err = p.written(p.key+end, w, int64(len(p.body)))
		}
		return err
	})
	return info, err
}

// create makes the first object.
func (p *probe) create(ctx context.Context) (storage.Rev, error) {
	info, err := p.put(ctx, probeNames()[0], storage.Absent())
	return info.Rev, p.explain("storage.objects.create", err)
}

// conditions tries a create and a stale put, which must fail. A put that must not fail would be the second one within a second.
func (p *probe) conditions(ctx context.Context, made storage.Rev) error {
	n, _ := generation(made)
	for _, cond := range []storage.Cond{storage.Absent(), storage.Match(rev(n + 1))} {
		_, err := p.put(ctx, probeNames()[0], cond)
		if refused, err := p.refused(err, http.StatusPreconditionFailed); err != nil || !refused {
			return cmp.Or(err, error(errUnconditional))
		}
	}
	return nil
}

var errUnconditional = errors.New("storage.gcs.endpoint: this service ignores conditions on generations, without which several processes " +
	"overwrite each other's changes")

// refused reports whether an answer says that a condition did not hold. One that comes too early may say so, too.
func (p *probe) refused(err error, status int) (bool, error) {
	got, _ := answered(err)
	switch {
	case err == nil:
		return false, nil
	case got == status, isThrottled(err), status == http.StatusNotFound && errors.Is(err, gcs.ErrObjectNotExist):
		return true, nil
	}
	return false, p.explain("storage.objects.delete", err)
}

// deletes tries a stale deletion, which must be refused. A service that ignores its condition, as fake-gcs-server does, is told
// the generation to delete from then on.
func (p *probe) deletes(ctx context.Context, made storage.Rev) error {
	n, _ := generation(made) // of another object, older than those that are tried
	stale := p.object(p.key + probeNames()[1]).If(gcs.Conditions{GenerationMatch: n})
	refused, err := p.refused(p.try(ctx, stale.Delete), http.StatusPreconditionFailed)
	if err != nil || refused {
		return err
	}
	stale = p.object(p.key + probeNames()[2]).Generation(n)
	p.named, err = p.refused(p.try(ctx, stale.Delete), http.StatusNotFound)
	if err == nil && !p.named {
		return errUnconditional
	}
	return err
}

// readBack asks that what was put be there.
func (p *probe) readBack(ctx context.Context) error {
	var got []byte
	err := p.try(ctx, func(ctx context.Context) error {
		r, err := p.object(p.key+probeNames()[0]).NewRangeReader(ctx, 5, -1)
		if err != nil {
			return err
		}
		defer r.Close()
		got, err = io.ReadAll(io.LimitReader(r, 1<<10))
		return err
	})
	if err != nil {
		return p.explain("storage.objects.get", err)
	}
	if !bytes.Equal(got, p.body[5:]) {
		return p.notGCS(errors.New("what was put reads as something else"))
	}
	return nil
}

// order lists the objects by pages of two.
func (p *probe) order(ctx context.Context) error {
	names := probeNames()
	for _, end := range names[1:] {
		if _, err := p.put(ctx, end, storage.Cond{}); err != nil {
			return p.explain("storage.objects.create", err)
		}
	}
	var got []string
	for token, more := "", true; more && len(got) <= len(names); more = token != "" {
		var page []*gcs.ObjectAttrs
		err := p.try(ctx, func(ctx context.Context) (err error) {
			page = nil
			token, err = iterator.NewPager(p.bucket.Objects(ctx, &gcs.Query{Prefix: p.name(p.key)}), 2, token).NextPage(&page)
			return err
		})
		if err != nil {
			return p.explain("storage.objects.list", err)
		}
		for _, attrs := range page {
			got = append(got, strings.TrimPrefix(attrs.Name, p.name(p.key)))
		}
	}
	if !slices.Equal(got, names) {
		return fmt.Errorf("storage.gcs.bucket: this service lists %q as %q: Berth needs the order of bytes", names, got)
	}
	return nil
}

// clean removes the objects of the probe, as far as it can. A warning says what cannot.
func (p *probe) clean(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), remote.ProbeWithin)
	defer cancel()
	for _, end := range probeNames() {
		err := p.object(p.key + end).Delete(ctx)
		if isThrottled(err) && remote.Sleep(ctx, pause) == nil { // it was made a moment ago
			err = p.object(p.key + end).Delete(ctx)
		}
		if err != nil && !errors.Is(err, gcs.ErrObjectNotExist) {
			p.o.Warn(fmt.Sprintf("storage.gcs: the probe could not be removed, nothing else will be (permission storage.objects.delete): %v", err))
			return
		}
	}
}

// trySigning warns where somebody else should sign and does not.
func (p *probe) trySigning(ctx context.Context) {
	if p.signer == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, remote.ProbeWithin)
	defer cancel()
	if _, err := p.SignedURL(ctx, "probe/x", time.Minute); err != nil {
		p.o.Warn(fmt.Sprintf("storage.gcs.serviceaccount: IAM signs no URLs for redirects, which takes its API (IAM Service Account Credentials) "+
			"and the permission iam.serviceAccounts.signBlob; with storage.redirect.disable: true it is not asked: %v", err))
	}
}

// lookAround warns of what is amiss with the bucket. A policy that does not tell is not asked again.
func (p *probe) lookAround(ctx context.Context) {
	attrs, err := p.bucket.Attrs(ctx)
	if err != nil {
		return
	}
	if attrs.RetentionPolicy != nil {
		p.o.Warn("storage.gcs.bucket: it has a retention policy: records cannot be changed before its end, so that most pushes will fail")
	}
	if attrs.VersioningEnabled {
		p.o.Warn("storage.gcs.bucket: it keeps old versions: each change of a record, and all that is collected, stays and costs until a " +
			"lifecycle rule removes it")
	}
	if slices.ContainsFunc(attrs.ACL, func(r gcs.ACLRule) bool { return r.Entity == gcs.AllUsers || r.Entity == gcs.AllAuthenticatedUsers }) {
		p.o.Warn("storage.gcs.bucket: its access control list makes it public: others can read it, whatever Berth allows")
	}
}

// explain names the key of the configuration that an error of the probe is about. The permission is what the request needs.
func (p *probe) explain(permission string, err error) error {
	var token *auth.Error
	var api *googleapi.Error
	status, reasons := answered(err)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &token) && !token.Temporary():
		return fmt.Errorf("%s: no token is given for these credentials: %w", p.o.Credentials.whichKey(), err)
	case errors.Is(err, errNoBucket), errors.Is(err, gcs.ErrBucketNotExist), status == http.StatusNotFound && len(reasons) > 0:
		return errors.New("storage.gcs.bucket: there is no bucket of this name" + p.place())
	case status == http.StatusUnauthorized && len(reasons) > 0:
		return fmt.Errorf("%s: the service does not take these credentials: %w", p.o.Credentials.whichKey(), err)
	case status == http.StatusForbidden && len(reasons) > 0:
		return fmt.Errorf("%s: the permission %s on storage.gcs.bucket is missing: %w", p.o.Credentials.whichKey(), permission, err)
	case status == http.StatusBadRequest && p.o.KeyID != "" && len(reasons) > 0:
		return fmt.Errorf("storage.gcs.keyid: the service cannot use this key: %w", err)
	case errors.As(err, &api) && len(reasons) == 0, errors.Is(err, storage.ErrUnavailable):
		return p.notGCS(err)
	case status != 0:
		return fmt.Errorf("storage.gcs: the service refuses a request that needs %s: %w", permission, err)
	}
	where := remote.Address{Key: p.whereKey(), Scheme: "storage.gcs.endpoint", CA: "storage.gcs.rootca", Place: p.place()}
	if p.o.Proxy != "" {
		where.Proxy = "storage.gcs.proxy"
	}
	return where.Unreachable(err)
}

// place says where the bucket was looked for.
func (p *probe) place() string { return " at " + endpoint(p.o) }

func (p *probe) whereKey() string { return "storage.gcs.endpoint" }

func (p *probe) notGCS(cause error) error {
	return fmt.Errorf("%s: what answers%s does not speak the API of Google Cloud Storage: %w", p.whereKey(), p.place(), cause)
}
