package registry

import (
	"errors"
	"hash"
	"io"
	"sync"
)

// errTooLong says that a body went on past the size announced for it.
var errTooLong = errors.New("the body is longer than announced")

// errTooLarge says that a body of unknown size went on past the largest blob there may be.
var errTooLarge = errors.New("the blob is larger than any may be")

// A BodyError is of a body on its way into the store, and not of the store.
type BodyError struct{ Err error }

func (e *BodyError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *BodyError) Unwrap() error { return e.Err }

// An ingest is a body on its way into the store: a reader that counts and hashes what passes. Long bodies are hashed by
// a goroutine of their own, so that receiving, hashing and writing overlap. Close it when done reading.
type ingest struct {
	body  io.Reader
	limit int64 // bytes announced; -1: unknown
	room  int64 // bytes that there may be; -1: any number
	// broken is what broke the body off, if anything did; a lenient body then ends as if it were complete.
	lenient bool
	broken  error

	hash   hash.Hash // nil: not hashed
	n      int64
	blocks chan *block
	done   chan struct{}
}

// inline is how many bytes of a body are hashed as they are read.
const inline = 64 << 10

// A block is a piece of a body on its way to the hash.
type block struct {
	buf [256 << 10]byte
	n   int
}

var blocks = sync.Pool{New: func() any { return new(block) }}

// Blocks waiting for the hash, for one body; with the one being hashed and the one being filled, this bounds memory.
const blocksAhead = 2

// ingest makes an ingest of a chunk.
func (u *Upload) ingest(c Chunk, h hash.Hash) *ingest {
	return &ingest{body: c.Body, limit: c.length(), room: u.room(), hash: h}
}

func (g *ingest) Read(p []byte) (int, error) {
	n, err := g.body.Read(p)
	g.n += int64(n)
	if g.limit >= 0 && g.n > g.limit {
		return 0, &BodyError{errTooLong}
	}
	if g.room >= 0 && g.n > g.room {
		return 0, &BodyError{errTooLarge}
	}
	if g.hash != nil {
		g.feed(p[:n])
	}
	if err != nil && err != io.EOF {
		g.broken = err
		err = &BodyError{err}
		if g.lenient {
			err = io.EOF
		}
	}
	return n, err
}

func (g *ingest) feed(p []byte) {
	if g.blocks == nil {
		if g.n <= inline {
			g.hash.Write(p)
			return
		}
		g.blocks, g.done = make(chan *block, blocksAhead), make(chan struct{})
		go g.hashBlocks()
	}
	for len(p) > 0 {
		b := blocks.Get().(*block)
		b.n = copy(b.buf[:], p)
		p = p[b.n:]
		g.blocks <- b
	}
}

func (g *ingest) hashBlocks() {
	defer close(g.done)
	for b := range g.blocks {
		g.hash.Write(b.buf[:b.n])
		blocks.Put(b)
	}
}

// close waits for the hash of all that was read.
func (g *ingest) close() {
	if g.blocks != nil {
		close(g.blocks)
		<-g.done
		g.blocks = nil
	}
}
