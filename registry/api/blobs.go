package api

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"berth/registry"
	"berth/registry/gate"
)

// smallBody is how many bytes of a blob are sent as a request like any other: the kernel takes them, or most of them, at
// once. More are sent at the speed of the client, and must not keep those from their turn who want little.
const smallBody = 64 << 10

// fewRanges is how many ranges of a blob are sent so: each may cost a call of the store.
const fewRanges = 16

// getBlob answers GET by http.ServeContent, which gives a file to the socket without copying it.
func (a *API) getBlob(c *call) error {
	b, err := a.repository(c).Blob(c.r.Context(), c.digest)
	if err != nil {
		return err
	}
	if done, err := c.beginBlob(b); done || err != nil {
		return err
	}
	if done, err := a.redirect(c, b); done || err != nil {
		return err
	}
	if c.sending > smallBody || len(c.wanted) > fewRanges {
		if err := c.ticket.Move(c.r.Context(), gate.Blobs); err != nil {
			return err
		}
	}
	content, err := b.Open(c.r.Context(), c.wanted[0].From, c.wanted[0].N, c.wanted[1:]...)
	if err != nil {
		return err
	}
	watched := &watchedReader{content: content}
	served := io.ReadSeeker(watched)
	if _, isFile := content.(syscall.Conn); isFile {
		served = content // for the kernel to send
	}
	http.ServeContent(c.w, c.r, "", time.Time{}, served)
	if err := watched.end(); err != nil {
		return err
	}
	c.checkComplete()
	return nil
}

// redirect sends a client to the store itself, if it can be sent there. A URL of the store serves one range; what asks for
// several is served here.
func (a *API) redirect(c *call, b *registry.Blob) (done bool, err error) {
	if a.o.Redirect == nil || strings.Contains(c.r.Header.Get("Range"), ",") || !a.o.Redirect(c.r) {
		return false, nil
	}
	location, err := b.SignedURL(c.r.Context(), a.o.RedirectExpiry)
	if errors.Is(err, errors.ErrUnsupported) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	h := c.w.Header()
	h["Location"] = []string{location}
	h["Cache-Control"] = []string{"no-store"} // the URL expires
	h.Del("Etag")
	h.Del("Content-Type")
	return true, writeEmpty(c.w, http.StatusTemporaryRedirect)
}

// A watchedReader keeps the error that reading ended with, which http.ServeContent does not tell. It is guarded, since
// ServeContent reads several ranges from a goroutine that may outlive it for a moment.
type watchedReader struct {
	mu      sync.Mutex
	content io.ReadSeekCloser
	err     error
}

func (w *watchedReader) Read(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.content.Read(p)
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}

func (w *watchedReader) Seek(offset int64, whence int) (int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.content.Seek(offset, whence)
}

// end closes the content and returns the error that reading it ended with. Whoever still reads then gets an error, and opens
// nothing again.
func (w *watchedReader) end() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.err
	w.err = os.ErrClosed
	w.content.Close() // it was only read
	return err
}

// headBlob answers HEAD, by which a client asks before it relies on a blob being there. It is about the whole blob: Range is for
// GET alone (RFC 9110, section 14.2).
func (a *API) headBlob(c *call) error {
	c.r.Header.Del("Range")
	b, err := a.repository(c).CheckBlob(c.r.Context(), c.digest)
	if err != nil {
		return err
	}
	if done, err := c.beginBlob(b); done || err != nil {
		return err
	}
	http.ServeContent(c.w, c.r, "", time.Time{}, io.NewSectionReader(nil, 0, b.Size)) // for HEAD, only the size is asked for
	return nil
}

// beginBlob sets the headers of a blob and deals with what can be answered without its bytes.
func (c *call) beginBlob(b *registry.Blob) (done bool, err error) {
	h := c.w.Header()
	h["Docker-Content-Digest"] = []string{b.Digest.String()}
	h["Etag"] = []string{etag(b.Digest)}
	h["Cache-Control"] = []string{"max-age=31536000, immutable"}
	if done, err := unchanged(c.w, c.r, b.Digest); done || err != nil {
		return done, err
	}
	c.r.Header.Del("If-Match") // it was checked; http.ServeContent would refuse a bare digest
	c.r.Header.Del("If-None-Match")
	h["Content-Type"] = []string{"application/octet-stream"}
	header := c.r.Header.Get("Range")
	c.sending, c.wanted = b.Size, []registry.Span{{From: 0, N: b.Size}}
	if header == "" {
		return false, nil
	}
	if condition := c.r.Header.Get("If-Range"); condition != "" && condition != etag(b.Digest) {
		c.r.Header.Del("Range")
		return false, nil
	}
	verdict, spans, bytes := judgeRange(header, b.Size)
	switch verdict {
	case rangeServe:
		c.wanted, c.sending = spans, bytes
	case rangeIgnore:
		c.r.Header.Del("Range")
	case rangeUnsatisfiable:
		return false, &problem{status: http.StatusRequestedRangeNotSatisfiable, code: "SIZE_INVALID",
			message: "the range is malformed or has nothing of the " + itoa(b.Size) + " bytes of the blob",
			header:  [2]string{"Content-Range", "bytes */" + itoa(b.Size)}}
	}
	return false, nil
}

// checkComplete aborts an answer that is shorter than it was announced: it must not look whole. Either the client left,
// or a file is shorter than when it was opened.
func (c *call) checkComplete() {
	announced, err := strconv.ParseInt(c.w.Header().Get("Content-Length"), 10, 64)
	if err == nil && c.w.Written() < announced {
		panic(http.ErrAbortHandler)
	}
}

func (a *API) deleteBlob(c *call) error {
	if err := a.repository(c).DeleteBlob(c.r.Context(), c.digest); err != nil {
		return err
	}
	return writeEmpty(c.w, http.StatusAccepted)
}
