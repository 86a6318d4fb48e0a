package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"berth/storage"
	"berth/storage/remote"
)

// Delete removes an object. Under a Match, it is overwritten by a tombstone where the service has no conditional DELETE that
// can be trusted.
func (d *Driver) Delete(ctx context.Context, key string, cond storage.Cond) error {
	if err := check(ctx, "delete", key); err != nil {
		return err
	}
	expected, matches := cond.Rev()
	switch {
	case cond.IsAlways():
		return d.remove(ctx, key, "")
	case matches && !isRev(expected):
		return conflict("delete", key)
	case cond.IsAbsent():
		return d.holds(ctx, "delete", key, cond)
	case d.emulated:
		defer d.lock(key)()
		if err := d.holds(ctx, "delete", key, cond); err != nil {
			return err
		}
		return d.remove(ctx, key, "")
	}
	err := d.deleteMatch(ctx, key, expected)
	if errors.Is(err, fs.ErrNotExist) {
		return conflict("delete", key)
	}
	return err
}

func (d *Driver) deleteMatch(ctx context.Context, key string, expected storage.Rev) error {
	if d.direct {
		return d.remove(ctx, key, expected)
	}
	_, err := d.send(ctx, key, payload{body: remote.PartOf(nil)}, storage.Match(expected))
	return err
}

// remove is a DELETE, of the content of a Rev unless that is empty.
func (d *Driver) remove(ctx context.Context, key string, match storage.Rev) error {
	in := &s3.DeleteObjectInput{Bucket: &d.o.Bucket, Key: aws.String(d.name(key))}
	if match != "" {
		in.IfMatch = d.ifMatch(match)
	}
	err := d.service.Do(ctx, remote.Call{Operation: "delete", Key: key, Conditional: match != ""}, func(ctx context.Context) error {
		_, err := d.client.DeleteObject(ctx, in)
		return err
	})
	if match == "" && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// bulk is how many keys one DeleteObjects may have.
const bulk = 1000

// DeleteAll removes objects by thousands.
func (d *Driver) DeleteAll(ctx context.Context, keys []string) error {
	for _, key := range keys {
		if err := check(ctx, "delete", key); err != nil {
			return err
		}
	}
	for group := range slices.Chunk(keys, bulk) {
		if err := d.deleteGroup(ctx, group); err != nil {
			return err
		}
	}
	return nil
}

func (d *Driver) deleteGroup(ctx context.Context, keys []string) error {
	in := &s3.DeleteObjectsInput{Bucket: &d.o.Bucket, Delete: &types.Delete{Quiet: aws.Bool(true)}}
	for _, key := range keys {
		in.Delete.Objects = append(in.Delete.Objects, types.ObjectIdentifier{Key: aws.String(d.name(key))})
	}
	c := remote.Call{Operation: "delete", Key: fmt.Sprintf("%s and %d more", keys[0], len(keys)-1)}
	return d.service.Do(ctx, c, func(ctx context.Context) error {
		out, err := d.client.DeleteObjects(ctx, in)
		if err != nil {
			return err
		}
		for _, e := range out.Errors {
			if name := aws.ToString(e.Code); !slices.Contains(absentCodes, name) {
				return fmt.Errorf("%w: %s: %s %s", errPartly, aws.ToString(e.Key), name, aws.ToString(e.Message))
			}
		}
		return nil
	})
}

// errPartly says that a service did some of what it was asked for; it is asked again.
var errPartly = errors.New("not all were deleted")
