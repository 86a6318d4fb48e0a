package storm

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"

	"berth/tests/content"
	"berth/tests/harness"
)

// errCut says that a request was not answered, or that the registry could not do it now: it may have happened or not.
var errCut = errors.New("cut off")

// shared is the repository that all clients write to, besides one of their own each.
const shared = "storm/shared"

// A worker is one client. What it deletes it alone has made, so that it knows what goes with it.
type worker struct {
	ledger *Ledger
	over   *replicas
	repo   string
	seed   string
	made   int
	loose  []content.Blob    // in repo, and in no manifest
	sets   []content.Set     // in repo
	tags   map[string]string // of repo, as this worker set them: to which digest
	shared []content.Set     // in the shared repository
	rand   *rand.Rand
}

// replicas take the requests of all clients in turn.
type replicas struct {
	clients []*harness.Client
	turn    atomic.Uint32
}

func (r *replicas) next() *harness.Client {
	return r.clients[int(r.turn.Add(1))%len(r.clients)]
}

// Do sends a request to the next replica that takes connections.
func (r *replicas) Do(call harness.Call) (reply *harness.Reply, err error) {
	for range r.clients {
		reply, err = r.next().Do(call)
		if !errors.Is(err, syscall.ECONNREFUSED) {
			break
		}
	}
	return reply, err
}

// do sends a request. An answer other than the statuses is an error: errCut if a fault may be the reason.
func (w *worker) do(call harness.Call, statuses ...int) (*harness.Reply, error) {
	r, err := w.over.Do(call)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", errCut, err)
	}
	err = r.Want(statuses...)
	if err != nil && (r.Status == http.StatusServiceUnavailable || r.Status == http.StatusInsufficientStorage) && len(r.Codes()) > 0 {
		err = fmt.Errorf("%w: %v", errCut, err)
	}
	return r, err
}

func (w *worker) next() string {
	w.made++
	return fmt.Sprintf("%s-%d", w.seed, w.made)
}

// write does one request that sets things to a value, and enters it.
func (w *worker) write(value string, call harness.Call, things ...thing) error {
	a := w.ledger.begin(value, things...)
	_, err := w.do(call, 201, 202)
	if err == nil {
		a.acked()
	}
	return err
}

func path(repo string, rest ...string) string {
	return "/v2/" + repo + "/" + strings.Join(rest, "/")
}

func octets(b []byte) harness.Call {
	return harness.Call{Body: b, Header: http.Header{"Content-Type": {content.OctetStream}}}
}

// located is the path of a Location: what serves the store next may be at another address.
func located(r *harness.Reply) string {
	u, err := url.Parse(r.Header.Get("Location"))
	if err != nil {
		return err.Error() // to be refused when it is used
	}
	return u.Path
}

// begin opens an upload.
func (w *worker) begin(repo string, b content.Blob) (*upload, error) {
	r, err := w.do(harness.Call{Method: "POST", Path: path(repo, "blobs/uploads/")}, 202)
	if err != nil {
		return nil, err
	}
	u := &upload{repo: repo, location: located(r), blob: b}
	w.ledger.open(u)
	return u, nil
}

// patch sends the next bytes of an upload, streamed without a length if streamed is true.
func (w *worker) patch(u *upload, size int, streamed bool) error {
	chunk := u.blob.Bytes[u.sent : u.sent+size]
	call := octets(chunk)
	call.Method, call.Path = "PATCH", u.location
	if streamed {
		call.Body, call.Stream = nil, bytes.NewReader(chunk)
	} else {
		call.Header.Set("Content-Range", fmt.Sprintf("%d-%d", u.sent, u.sent+size-1))
	}
	u.sent += size
	r, err := w.do(call, 202)
	if err != nil {
		return err
	}
	u.location, u.acked = located(r), u.sent
	return nil
}

// finish closes an upload with what was not sent yet. Where there are several replicas and one does not answer, another is
// asked for the same.
func (w *worker) finish(u *upload) error {
	call := octets(u.blob.Bytes[u.sent:])
	u.sent = len(u.blob.Bytes)
	call.Method, call.Path, call.Query = "PUT", u.location, url.Values{"digest": {u.blob.Digest}}
	a := w.ledger.begin(u.blob.Digest, thing{blobs, u.repo, u.blob.Digest})
	_, err := w.do(call, 201)
	for range len(w.over.clients) - 1 {
		if !errors.Is(err, errCut) {
			break
		}
		if _, err = w.do(call, 201); err == nil {
			w.ledger.retried()
		}
	}
	if err == nil {
		a.acked()
		w.ledger.close(u)
	}
	return err
}

// push pushes a blob by POST and PUT.
func (w *worker) push(repo string, b content.Blob) error {
	u, err := w.begin(repo, b)
	if err != nil {
		return err
	}
	return w.finish(u)
}
