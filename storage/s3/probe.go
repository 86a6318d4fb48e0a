package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"berth/storage"
	"berth/storage/remote"
)

// A probe tries what the driver relies on, with objects under one key that it made up.
type probe struct {
	*Driver
	key  string
	body []byte
	etag string // of what the key has
}

// probeNames end the keys that a probe makes, in the order of their bytes, which is not that of folders.
func probeNames() []string { return []string{"/a!", "/a-b", "/a.b", "/a/b", "/a0"} }

func (d *Driver) probe(ctx context.Context) error {
	id := random()
	p := &probe{Driver: d, key: "probe/" + id, body: []byte("made when Berth was started, to try the bucket: " + id)}
	if _, err := d.client.Options().Credentials.Retrieve(ctx); err != nil {
		return fmt.Errorf("storage.s3.accesskey: there are no credentials, in the configuration or where AWS has them: %w", err)
	}
	if err := p.reach(ctx); err != nil {
		return err
	}
	defer p.clean(ctx)
	conditional, err := p.conditions(ctx)
	if err != nil {
		return err
	}
	if err := p.readBack(ctx); err != nil {
		return err
	}
	if d.emulated = !conditional; d.emulated && d.o.Replicas != 1 {
		return errors.New("storage.replicas: this service ignores conditions (If-None-Match, If-Match) of PUT, without which several " +
			"processes overwrite each other's changes; write storage.replicas: 1 if one process alone uses the bucket")
	}
	if err := p.deletes(ctx); err != nil {
		return err
	}
	if err := p.order(ctx); err != nil {
		return err
	}
	p.lookAround(ctx)
	return nil
}

// try runs f, again when that may help. The error is that of the last attempt as it is.
func (p *probe) try(ctx context.Context, f func(ctx context.Context) error) error {
	return remote.Try(ctx, func(err error) bool { return judge(err).Retry && !slices.Contains(credentialCodes, first(code(err))) }, f)
}

func first(name string, _ int) string { return name }

// reach lists the bucket.
func (p *probe) reach(ctx context.Context) error {
	in := &s3.ListObjectsV2Input{Bucket: &p.o.Bucket, Prefix: aws.String(p.name("")), MaxKeys: aws.Int32(1)}
	return p.explain("s3:ListBucket", p.try(ctx, func(ctx context.Context) error {
		_, err := p.client.ListObjectsV2(ctx, in)
		return err
	}))
}

// put puts an object of the probe, under the key and the end of a name.
func (p *probe) put(ctx context.Context, end, ifNoneMatch, ifMatch string) error {
	in := &s3.PutObjectInput{Bucket: &p.o.Bucket, Key: aws.String(p.name(p.key) + end), IfNoneMatch: text(ifNoneMatch), IfMatch: text(ifMatch)}
	in.ServerSideEncryption, in.SSEKMSKeyId = p.encryption()
	in.StorageClass = types.StorageClass(p.o.StorageClass)
	return p.try(ctx, func(ctx context.Context) error {
		in.Body = bytes.NewReader(p.body)
		out, err := p.client.PutObject(ctx, in)
		if err == nil {
			p.etag = aws.ToString(out.ETag)
		}
		return err
	})
}

func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// wrongETag is that of no object of a probe.
const wrongETag = `"0123456789abcdef0123456789abcdef"`

// conditions tries a create, a create that must fail, a stale put that must fail, and a put under the right condition.
func (p *probe) conditions(ctx context.Context) (work bool, err error) {
	end := probeNames()[0]
	err = p.put(ctx, end, "*", "")
	if _, status := code(err); status == http.StatusNotImplemented || status == http.StatusBadRequest {
		return false, p.explain("s3:PutObject", p.put(ctx, end, "", ""))
	}
	if err != nil {
		return false, p.explain("s3:PutObject", err)
	}
	for _, condition := range [][2]string{{"*", ""}, {"", wrongETag}} {
		if refused, err := p.refused(p.put(ctx, end, condition[0], condition[1])); err != nil || !refused {
			return false, err
		}
	}
	for _, p.bare = range []bool{false, true} { // Ceph 16 compares with the text, which has no quotes there
		refused, err := p.refused(p.put(ctx, end, "", *p.ifMatch(storage.Rev(p.etag))))
		if err != nil || !refused {
			return err == nil, err
		}
	}
	p.bare = false
	return false, nil
}

// refused reports whether an answer says that a condition did not hold.
func (p *probe) refused(err error) (bool, error) {
	if err == nil {
		return false, nil
	}
	name, status := code(err)
	if status == http.StatusPreconditionFailed || status == http.StatusConflict || slices.Contains(absentCodes, name) {
		return true, nil
	}
	return false, p.explain("s3:PutObject", err)
}

// readBack asks that what was put be there.
func (p *probe) readBack(ctx context.Context) error {
	in := &s3.GetObjectInput{Bucket: &p.o.Bucket, Key: aws.String(p.name(p.key) + probeNames()[0]), Range: aws.String("bytes=5-")}
	var got []byte
	err := p.try(ctx, func(ctx context.Context) error {
		out, err := p.client.GetObject(ctx, in)
		if err != nil {
			return err
		}
		defer out.Body.Close()
		got, err = io.ReadAll(io.LimitReader(out.Body, 1<<10))
		return err
	})
	if err != nil {
		return p.explain("s3:GetObject", err)
	}
	if !bytes.Equal(got, p.body[5:]) {
		return p.notS3(errors.New("what was put reads as something else"))
	}
	return nil
}

// deletes finds out whether DELETE has conditions.
func (p *probe) deletes(ctx context.Context) error {
	if p.o.Conditional == No || p.emulated || p.o.Conditional == Find && !p.isAWS() {
		return nil
	}
	for _, end := range []string{probeNames()[0], "/none"} {
		in := &s3.DeleteObjectInput{Bucket: &p.o.Bucket, Key: aws.String(p.name(p.key) + end), IfMatch: aws.String(wrongETag)}
		refused, err := p.refused(p.try(ctx, func(ctx context.Context) error {
			_, err := p.client.DeleteObject(ctx, in)
			return err
		}))
		switch {
		case p.o.Conditional == Find && (err != nil || !refused):
			return nil
		case err != nil:
			return err
		case !refused && end != "/none":
			return errors.New("storage.s3.conditionaldelete: this service ignores conditions of DELETE; write auto")
		}
	}
	p.direct = true
	return nil
}

func (p *probe) isAWS() bool {
	return p.o.Endpoint == "" || strings.Contains(p.o.Endpoint, ".amazonaws.com")
}

// order lists the objects by pages of two.
func (p *probe) order(ctx context.Context) error {
	names := probeNames()
	for _, end := range names[1:] {
		if err := p.put(ctx, end, "", ""); err != nil {
			return p.explain("s3:PutObject", err)
		}
	}
	var got []string
	in := &s3.ListObjectsV2Input{Bucket: &p.o.Bucket, Prefix: aws.String(p.name(p.key)), MaxKeys: aws.Int32(2)}
	for more := true; more && len(got) <= len(names); {
		err := p.try(ctx, func(ctx context.Context) error {
			out, err := p.client.ListObjectsV2(ctx, in)
			if err != nil {
				return err
			}
			for _, o := range out.Contents {
				in.StartAfter = o.Key
				got = append(got, strings.TrimPrefix(aws.ToString(o.Key), p.name(p.key)))
			}
			more = aws.ToBool(out.IsTruncated)
			return nil
		})
		if err != nil {
			return p.explain("s3:ListBucket", err)
		}
	}
	if !slices.Equal(got, names) {
		return fmt.Errorf("storage.s3.bucket: this service lists %q as %q: Berth needs the order of bytes", names, got)
	}
	return nil
}

// clean removes the objects of the probe, as far as it can. A warning says what cannot.
func (p *probe) clean(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), remote.ProbeWithin)
	defer cancel()
	for _, end := range probeNames() {
		in := &s3.DeleteObjectInput{Bucket: &p.o.Bucket, Key: aws.String(p.name(p.key) + end)}
		if _, err := p.client.DeleteObject(ctx, in); err != nil {
			p.o.Warn(fmt.Sprintf("storage.s3: the probe could not be removed, nothing else will be (permission s3:DeleteObject): %v", err))
			return
		}
	}
}

// lookAround warns of what is amiss with the bucket. A service or a policy that does not tell is not asked again.
func (p *probe) lookAround(ctx context.Context) {
	if status, err := p.client.GetBucketPolicyStatus(ctx, &s3.GetBucketPolicyStatusInput{Bucket: &p.o.Bucket}); err == nil &&
		status.PolicyStatus != nil && aws.ToBool(status.PolicyStatus.IsPublic) {
		p.o.Warn("storage.s3.bucket: its policy makes it public: anybody can read it, whatever Berth allows")
	}
	if acl, err := p.client.GetBucketAcl(ctx, &s3.GetBucketAclInput{Bucket: &p.o.Bucket}); err == nil && slices.ContainsFunc(acl.Grants, isPublic) {
		p.o.Warn("storage.s3.bucket: its access control list makes it public: others can read it, whatever Berth allows")
	}
	rules, err := p.client.GetBucketLifecycleConfiguration(ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: &p.o.Bucket})
	name, _ := code(err)
	if err == nil && !slices.ContainsFunc(rules.Rules, abortsUploads) || name == "NoSuchLifecycleConfiguration" {
		p.o.Warn("storage.s3.bucket: it has no rule for incomplete uploads (AbortIncompleteMultipartUpload): what killed uploads leave is " +
			"removed by Berth only, where the service lists it, and costs until then")
	}
}

func isPublic(g types.Grant) bool {
	uri := ""
	if g.Grantee != nil {
		uri = aws.ToString(g.Grantee.URI)
	}
	return strings.HasSuffix(uri, "/global/AllUsers") || strings.HasSuffix(uri, "/global/AuthenticatedUsers")
}

func abortsUploads(r types.LifecycleRule) bool {
	return r.Status == types.ExpirationStatusEnabled && r.AbortIncompleteMultipartUpload != nil
}
