// Package observe follows each HTTP request from its first byte to its last: it names it, counts what was answered,
// writes the access log, and turns a panic into a logged error. It stands in front of every handler of the server.
package observe

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"berth/metrics"
)

// IDHeader is the header that carries the id of a request, both ways.
const IDHeader = "X-Request-Id"

// An Exchange is one request and its response. It is the http.ResponseWriter that handlers get. Handlers may set its
// exported fields; like every ResponseWriter it is not for concurrent use.
type Exchange struct {
	http.ResponseWriter
	ID      string // of the request, as in the response header and every log line
	Subject string // who asked; "" is anonymous
	Quiet   bool   // it only asks how the server is: not counted, and few of its like are in the access log
	// Gone reports whether the client has left, where the context of the request does not tell before its body was read.
	// Nil: the context tells.
	Gone func() bool
	// Ended is called once it is known how the exchange ended, panics included. Nil: nobody asks.
	Ended   func()
	Outcome metrics.Outcome // of asking who sent it, and whether they may
	start   time.Time
	status  int
	written int64 // bytes of body
	head    bool  // the answer has no body, whatever is written
	figures *metrics.Metrics
	route   metrics.Route
	byTag   bool
	entered bool
	body    countedBody
}

// A countedBody counts what is read of the body of a request.
type countedBody struct {
	io.ReadCloser
	n atomic.Int64 // bytes; a handler may leave a reader behind
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}

// Of returns the exchange that w belongs to. Where there is none, as in a test of a single handler, it begins one.
func Of(w http.ResponseWriter, r *http.Request) *Exchange {
	for inner := w; ; {
		if x, ok := inner.(*Exchange); ok {
			return x
		}
		u, ok := inner.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return begin(w, r)
		}
		inner = u.Unwrap()
	}
}

func begin(w http.ResponseWriter, r *http.Request) *Exchange {
	x := &Exchange{ResponseWriter: w, start: time.Now(), ID: first(r.Header[IDHeader]), head: r.Method == http.MethodHead}
	if !saneID(x.ID) {
		x.ID = strconv.FormatUint(rand.Uint64()|1<<63, 16) // 16 digits
	}
	w.Header()[IDHeader] = []string{x.ID}
	return x
}

// saneID reports whether an id from outside can go into logs and headers as it is.
func saneID(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.', c == ':':
		default:
			return false
		}
	}
	return true
}

// Enter notes what is asked for, once that is known; byTag is for a manifest that is named by a tag.
func (x *Exchange) Enter(route metrics.Route, byTag bool) {
	x.route, x.byTag = route, byTag
	if x.figures != nil && !x.entered {
		x.entered = true
		x.figures.Enter(route)
	}
}

// Route returns what is asked for, as far as that is known.
func (x *Exchange) Route() metrics.Route { return x.route }

// Status returns the status that was answered, 0 when nothing was yet.
func (x *Exchange) Status() int { return x.status }

// Written returns how many bytes of body were answered.
func (x *Exchange) Written() int64 { return x.written }

// WriteHeader is as [http.ResponseWriter] has it. Informational statuses do not count as an answer.
func (x *Exchange) WriteHeader(status int) {
	if x.status == 0 && status >= 200 {
		x.status = status
	}
	x.ResponseWriter.WriteHeader(status)
}

func (x *Exchange) Write(p []byte) (int, error) {
	x.answered()
	n, err := x.ResponseWriter.Write(p)
	x.count(int64(n))
	return n, err
}

// ReadFrom keeps sendfile reachable: it is there for the server's own ReadFrom, which gives a file to the socket.
func (x *Exchange) ReadFrom(src io.Reader) (n int64, err error) {
	x.answered()
	if rf, ok := x.ResponseWriter.(io.ReaderFrom); ok {
		n, err = rf.ReadFrom(src)
	} else {
		n, err = io.Copy(struct{ io.Writer }{x.ResponseWriter}, src)
	}
	x.count(n)
	return n, err
}

func (x *Exchange) count(n int64) {
	if !x.head {
		x.written += n
	}
}

func (x *Exchange) answered() {
	if x.status == 0 {
		x.status = http.StatusOK
	}
}

// Unwrap is for [http.ResponseController].
func (x *Exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// statusGone is what the access log has for a request whose client left before there was an answer, as nginx has it.
const statusGone = 499

// Options of a Handler: zero values mean that there is none.
type Options struct {
	AccessLog *AccessLog
	Metrics   *metrics.Metrics
}

// Handler observes all requests to next. Panics go to log.
func Handler(next http.Handler, o Options, log logrus.FieldLogger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := begin(w, r)
		if o.Metrics != nil {
			x.measure(o.Metrics, r)
		}
		defer func() {
			fault := recover()
			cut := fault != nil && (isAbort(fault) || !x.panicked(fault, r, log))
			if cut && x.status == 0 {
				x.status = statusGone
			}
			if x.Ended != nil {
				x.Ended()
			}
			x.report(o, r)
			if cut {
				panic(http.ErrAbortHandler) // cuts the connection: the client must not take what it got for an answer
			}
		}()
		next.ServeHTTP(x, r)
	})
}

func (x *Exchange) measure(m *metrics.Metrics, r *http.Request) {
	x.figures = m
	if r.ContentLength != 0 {
		x.body.ReadCloser = r.Body
		r.Body = &x.body
	}
}

// report tells of an exchange that is over.
func (x *Exchange) report(o Options, r *http.Request) {
	if o.AccessLog == nil && o.Metrics == nil {
		return
	}
	now := time.Now()
	if o.AccessLog != nil {
		o.AccessLog.add(x, r, now)
	}
	if o.Metrics != nil && !x.Quiet {
		o.Metrics.Served(metrics.Request{
			Method: r.Method, Status: x.finalStatus(), Took: now.Sub(x.start), Received: x.body.n.Load(), Sent: x.written,
			Route: x.route, Outcome: x.Outcome, ByTag: x.byTag, Entered: x.entered,
		})
	}
}

func isAbort(fault any) bool {
	err, ok := fault.(error)
	return ok && errors.Is(err, http.ErrAbortHandler)
}

// panicked logs a panic and answers it with an error, unless an answer was begun.
func (x *Exchange) panicked(fault any, r *http.Request, log logrus.FieldLogger) (answered bool) {
	log.WithFields(logrus.Fields{
		"http.request.id": x.ID, "http.request.method": r.Method, "http.request.uri": r.RequestURI,
		"panic": fmt.Sprint(fault), "stack": string(debug.Stack()),
	}).Error("panic while serving a request")
	if x.status != 0 {
		return false
	}
	body := `{"errors":[{"code":"UNKNOWN","message":"` + InternalMessage(x.ID) + "\"}]}\n"
	h := x.Header()
	clear(h)
	h.Set(IDHeader, x.ID)
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	x.WriteHeader(http.StatusInternalServerError)
	_, _ = io.WriteString(x, body) // the client may be gone; the panic is in the log
	return true
}

// InternalMessage is what a client is told of an error that is ours: where to find it, and nothing of what it says.
func InternalMessage(id string) string {
	return "internal error; the registry's log has it under the request id " + id
}
