package filesystem

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"berth/storage"
)

// smallObject is the size, in bytes, below which an object is read at once: its Rev is taken from its bytes, which are
// then there already.
const smallObject = 256 << 10

// edge is how many bytes at each end of a larger object go into its Rev: those of a record begin with its nonce.
const edge = 512

// sillyName is how an NFS client calls what was removed while it was open. Such a file is no object.
var sillyName = regexp.MustCompile(`^\.nfs[0-9a-f]{24}$`)

func isSilly(name string) bool { return name[0] == '.' && sillyName.MatchString(name) }

// path returns the file of a key.
func (d *Driver) path(key string) (string, error) {
	if err := storage.CheckKey(key); err != nil {
		return "", err
	}
	if isSilly(key[lastSlash(key)+1:]) {
		return "", fmt.Errorf("%w: %q is a name that NFS uses", storage.ErrInvalidKey, key)
	}
	return filepath.Join(d.objects, key), nil
}

// Open implements [storage.Driver]. The reader of a whole object that is not small is an *os.File, so that the
// system can send it to a socket by itself.
func (d *Driver) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, storage.Info, error) {
	if off < 0 {
		return nil, storage.Info{}, fmt.Errorf("open %s: negative offset %d", key, off)
	}
	r, info, err := d.open(ctx, key, off, n)
	if err != nil {
		return nil, storage.Info{}, fmt.Errorf("open %s: %w", key, err)
	}
	return r, info, nil
}

func (d *Driver) open(ctx context.Context, key string, off, n int64) (io.ReadCloser, storage.Info, error) {
	c, err := d.content(ctx, key)
	if err != nil {
		return nil, storage.Info{}, err
	}
	off = min(off, c.info.Size)
	if n < 0 || n > c.info.Size-off {
		n = c.info.Size - off
	}
	if c.file == nil {
		body := bytes.NewReader(c.body[off : off+n])
		if n == c.info.Size {
			return wholeBody{body}, c.info, nil
		}
		return io.NopCloser(body), c.info, nil
	}
	if n == c.info.Size {
		return c.file, c.info, nil
	}
	if _, err := c.file.Seek(off, io.SeekStart); err != nil {
		return nil, storage.Info{}, errors.Join(classify(err), c.file.Close())
	}
	return &part{io.LimitedReader{R: c.file, N: n}, c.file}, c.info, nil
}

// wholeBody reads a small object, and can seek in it.
type wholeBody struct{ *bytes.Reader }

func (wholeBody) Close() error { return nil }

// part reads a range of a file.
type part struct {
	io.LimitedReader
	file *os.File
}

// WriteTo lets w see that it reads from a file.
func (p *part) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, &p.LimitedReader) }

func (p *part) Close() error { return p.file.Close() }

// Stat implements [storage.Driver]. It reads a small object whole, for its Rev.
func (d *Driver) Stat(ctx context.Context, key string) (storage.Info, error) {
	c, err := d.content(ctx, key)
	if err == nil && c.file != nil {
		err = classify(c.file.Close())
	}
	if err != nil {
		return storage.Info{}, fmt.Errorf("stat %s: %w", key, err)
	}
	return c.info, nil
}

// A content is what a key has, all of it got through one descriptor: the body of a small object, the open file of
// another.
type content struct {
	info storage.Info
	body []byte
	file *os.File // nil if the object is small
}

// content returns the durable content of a key.
func (d *Driver) content(ctx context.Context, key string) (content, error) {
	path, err := d.path(key)
	if err = errors.Join(ctx.Err(), err); err != nil {
		return content{}, err
	}
	c, err := d.load(path, key)
	if settleErr := d.flights.settle(ctx, key); settleErr != nil {
		if c.file != nil {
			c.file.Close()
		}
		return content{}, settleErr
	}
	return c, err
}

// load returns the content of a key, durable or not.
func (d *Driver) load(path, key string) (content, error) {
	if d.traits.cachesNames && d.lookAgain(path) {
		return load(path, key)
	}
	c, err := load(path, key)
	if errors.Is(err, fs.ErrNotExist) && d.lookAgain(path) {
		return load(path, key)
	}
	return c, err
}

// lookAgain has the client of a server, where what is shared may be, ask for the folder of a path, by opening it: it remembers for a
// minute what names led to, and which were not there, although others change that meanwhile. Nothing is done where nobody else is.
func (d *Driver) lookAgain(path string) bool {
	for dir := filepath.Dir(path); d.folders.strangers && len(dir) >= len(d.objects); dir = filepath.Dir(dir) {
		if f, err := os.Open(dir); err == nil {
			f.Close()
			return true
		}
	}
	return false
}

// load returns the content of a key as the system tells it. A small file is read and closed again by plain system calls: an
// os.File asks some more of the system.
func load(path, key string) (content, error) {
	var fd int
	err := uninterrupted(func() (err error) {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return content{}, readError(pathError("open", path, err))
	}
	c, err := loadSmall(fd, path, key)
	if err == nil && c.body == nil {
		return loadLarge(os.NewFile(uintptr(fd), path), key)
	}
	unix.Close(fd) // nothing was written
	return c, err
}

// loadSmall reads the object that is open as fd. The content of a large one has no body yet.
func loadSmall(fd int, path, key string) (content, error) {
	var st unix.Stat_t
	if err := uninterrupted(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return content{}, readError(pathError("stat", path, err))
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return content{}, fs.ErrNotExist // a folder of other keys, or nothing of ours
	}
	c := content{info: storage.Info{Key: key, Size: st.Size, ModTime: time.Unix(st.Mtim.Unix())}}
	if st.Size >= smallObject {
		return c, nil
	}
	c.body = make([]byte, st.Size)
	if err := readFull(fd, c.body); err != nil {
		return content{}, readError(pathError("read", path, err))
	}
	c.info.Rev = smallRev(c.body)
	return c, nil
}

// readFull reads all of p from the beginning of a file.
func readFull(fd int, p []byte) error {
	for off := 0; off < len(p); {
		var n int
		err := uninterrupted(func() (err error) {
			n, err = unix.Pread(fd, p[off:], int64(off))
			return err
		})
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		off += n
	}
	return nil
}

// loadLarge describes the large object that is open as f, which is closed if that fails.
func loadLarge(f *os.File, key string) (content, error) {
	st, err := f.Stat()
	if err != nil {
		return content{}, errors.Join(readError(err), f.Close())
	}
	var e ends
	if err := e.read(f, st.Size()); err != nil {
		return content{}, errors.Join(err, f.Close())
	}
	return content{info: storage.Info{Key: key, Size: st.Size(), ModTime: st.ModTime(), Rev: largeRev(&e, st)}, file: f}, nil
}

func smallRev(body []byte) storage.Rev {
	sum := sha256.Sum256(body)
	return storage.Rev("c" + base64.RawURLEncoding.EncodeToString(sum[:18]))
}

// ends are the first and the last bytes of an object that is not small.
type ends [2 * edge]byte

func (e *ends) read(f *os.File, size int64) error {
	_, err := f.ReadAt(e[:edge], 0)
	if err == nil {
		_, err = f.ReadAt(e[edge:], size-edge)
	}
	return readError(err)
}

func largeRev(e *ends, st fs.FileInfo) storage.Rev {
	var inode uint64
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		inode = sys.Ino
	}
	buf := append(make([]byte, 0, len(e)+3*8), e[:]...)
	for _, n := range []uint64{inode, uint64(st.Size()), uint64(st.ModTime().UnixNano())} {
		buf = binary.LittleEndian.AppendUint64(buf, n)
	}
	sum := sha256.Sum256(buf)
	return storage.Rev("f" + base64.RawURLEncoding.EncodeToString(sum[:18]))
}

func readError(err error) error {
	if isMissing(err) {
		return fs.ErrNotExist
	}
	return classify(err)
}
