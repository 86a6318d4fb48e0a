package azure

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"io/fs"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"

	"berth/storage"
	"berth/storage/remote"
)

// commitWithin bounds the making of a blob from its blocks.
const commitWithin = time.Minute

// polynomial is that of the checksums of the service.
var polynomial = crc64.MakeTable(0x9A6C9329AC4BC9B5)

// Put writes an object: one of at most a part in one request, whose body is in memory before it begins; a larger one in
// blocks, which appear as a blob under the condition when all are there. Blocks of an upload that fails are removed by the
// service after a week.
func (d *Driver) Put(ctx context.Context, key string, r io.Reader, size int64, cond storage.Cond) (storage.Info, error) {
	if err := d.check(ctx, "put", key); err != nil {
		return storage.Info{}, err
	}
	body, err := d.uploads.Read(ctx, r, size)
	if err != nil {
		return storage.Info{}, fmt.Errorf("put %s: %w", key, err)
	}
	if expected, ok := cond.Rev(); ok && !isRev(expected) {
		return storage.Info{}, conflict("put", key)
	}
	var info storage.Info
	if all, whole := body.Whole(); whole {
		info, err = d.putBlob(ctx, key, all, cond)
	} else {
		info, err = d.putBlocks(ctx, key, body, cond)
	}
	if _, matches := cond.Rev(); matches && errors.Is(err, fs.ErrNotExist) {
		err = conflict("put", key)
	}
	if err != nil {
		return storage.Info{}, err
	}
	return info, nil
}

// putBlob puts an object in one request.
func (d *Driver) putBlob(ctx context.Context, key string, body *remote.Part, cond storage.Cond) (info storage.Info, err error) {
	options := &blockblob.UploadOptions{AccessConditions: access(cond), TransactionalValidation: checksum(body)}
	c := remote.Call{Operation: "put", Key: key, Bytes: body.Size(), Conditional: !cond.IsAlways()}
	err = d.service.Do(ctx, c, func(ctx context.Context) error {
		out, err := d.blob(key).Upload(ctx, streaming.NopCloser(body.Body()), options)
		if err == nil {
			info = describe(key, int64(body.Size()), out.LastModified, out.ETag)
		}
		return err
	})
	if err == nil {
		body.Sent()
	}
	return info, err
}

// checksum is what the service is to find in a body.
func checksum(body *remote.Part) blob.TransferValidationType {
	var sum uint64
	for page := range body.Pages() {
		sum = crc64.Update(sum, polynomial, page)
	}
	return blob.TransferValidationTypeCRC64(sum)
}

// An upload is an object that goes up in blocks. Their names begin with what no other upload has.
type upload struct {
	d      *Driver
	key    string
	prefix []byte
	count  atomic.Int64
	size   atomic.Int64
}

// putBlocks puts an object of which the first part was read.
func (d *Driver) putBlocks(ctx context.Context, key string, body *remote.Body, cond storage.Cond) (storage.Info, error) {
	u := &upload{d: d, key: key, prefix: make([]byte, 16)}
	_, _ = rand.Read(u.prefix) // which never fails
	if err := d.uploads.Send(ctx, key, body, u.send); err != nil {
		return storage.Info{}, err
	}
	info, err := u.commit(ctx, cond)
	if errors.Is(err, errNoBlocks) && !cond.IsAlways() {
		err = u.lost(ctx, cond, err)
	}
	return info, err
}

// id is the name of a block.
func (u *upload) id(number int) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(u.prefix[:16:16], uint32(number)))
}

func (u *upload) send(ctx context.Context, part *remote.Part) error {
	sum := checksum(part)
	err := u.d.service.Do(ctx, remote.Call{Operation: "put", Key: u.key, Bytes: part.Size()}, func(ctx context.Context) error {
		_, err := u.d.blob(u.key).StageBlock(ctx, u.id(part.Number), streaming.NopCloser(part.Body()), &blockblob.StageBlockOptions{TransactionalValidation: sum})
		return err
	})
	if err == nil {
		u.count.Add(1)
		u.size.Add(int64(part.Size()))
	}
	return err
}

// commit makes a blob of the blocks. A second attempt finds them in the blob that the first has made.
func (u *upload) commit(ctx context.Context, cond storage.Cond) (info storage.Info, err error) {
	var ids []string
	for number := range int(u.count.Load()) {
		ids = append(ids, u.id(number+1))
	}
	kind := "application/octet-stream"
	options := &blockblob.CommitBlockListOptions{AccessConditions: access(cond), HTTPHeaders: &blob.HTTPHeaders{BlobContentType: &kind}}
	c := remote.Call{Operation: "put", Key: u.key, Conditional: !cond.IsAlways(), Limit: commitWithin}
	err = u.d.service.Do(ctx, c, func(ctx context.Context) error {
		out, err := u.d.blob(u.key).CommitBlockList(ctx, ids, options)
		if err == nil {
			info = describe(u.key, u.size.Load(), out.LastModified, out.ETag)
		}
		return err
	})
	return info, err
}

// lost tells whether the blocks went because somebody else wrote the blob, so that the condition does not hold.
func (u *upload) lost(ctx context.Context, cond storage.Cond, cause error) error {
	info, err := u.d.Stat(ctx, u.key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !cond.Holds(err == nil, info.Rev) {
		return conflict("put", u.key)
	}
	return cause
}
