// Package hostile sends what no honest client sends: slowly, too much, malformed, or with intent. It is to be refused or
// cut off with little memory used, and other clients are not to notice.
package hostile

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/tests/content"
	"berth/tests/harness"
)

const (
	timeout = time.Second     // of the server under test, for headers and for progress
	slack   = 4 * time.Second // for a busy machine
)

// start runs a server with short timeouts, and with a client that must not notice anything.
func start(t *testing.T, env ...string) *harness.Server {
	t.Helper()
	s := harness.Start(t, harness.Options{Env: append([]string{
		"REGISTRY_HTTP_READHEADERTIMEOUT=1s", "REGISTRY_HTTP_PROGRESSTIMEOUT=1s"}, env...)})
	bystand(t, s)
	return s
}

// image is what the bystander pulls.
func image() content.Set {
	return content.Algorithm(content.Digest).Image("bystander", content.AMD64(), []int{2000, 20_000}, nil)
}

// bystand pulls and pushes as an honest client does, until the test ends: everything must work, and in good time.
func bystand(t *testing.T, s *harness.Server) {
	t.Helper()
	set := image()
	client := harness.NewClient(s.Base)
	if err := client.Push("bystander", set, "v"); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var took []time.Duration
	var failed error
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ctx.Err() == nil && failed == nil; n++ {
			begun := time.Now()
			failed = honest(client, set, n)
			took = append(took, time.Since(begun))
			time.Sleep(10 * time.Millisecond)
		}
	}()
	t.Cleanup(func() {
		stop()
		<-done
		client.CloseIdle()
		if failed != nil {
			t.Errorf("another client: %v", failed)
		}
		slices.Sort(took)
		p99 := took[len(took)*99/100]
		t.Logf("another client: %d rounds, p50 %v, p99 %v", len(took), took[len(took)/2], p99)
		if p99 > 2*time.Second {
			t.Errorf("another client had to wait for %v", p99)
		}
	})
}

// honest is a pull of an image, and now and then a push.
func honest(c *harness.Client, set content.Set, n int) error {
	if n%10 == 0 {
		if err := c.PushBlob("bystander", content.Random(fmt.Sprint("bystander", n), 3000)); err != nil {
			return err
		}
	}
	if digest, err := c.Resolve("bystander", "v"); err != nil || digest != set.Top().Digest {
		return fmt.Errorf("the tag is at %q, %v", digest, err)
	}
	return c.Verify("bystander", set)
}

// A line is a bare connection.
type line struct {
	net.Conn
	t   *testing.T
	in  *bufio.Reader
	out error // of the first send that failed
}

func dial(t *testing.T, s *harness.Server) *line {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &line{Conn: c, t: t, in: bufio.NewReader(c)}
}

// send writes text, in which every LF becomes CRLF. A server may have hung up.
func (l *line) send(format string, args ...any) {
	l.raw(strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "\r\n"))
}

func (l *line) raw(text string) {
	if _, err := io.WriteString(l, text); err != nil && l.out == nil {
		l.out = err
	}
}

// A reply is what came back on a line.
type reply struct {
	*http.Response
	body []byte
}

// reply reads one response to a request of the method, nil when the connection ended instead.
func (l *line) reply(method string, limit time.Duration) *reply {
	l.t.Helper()
	if err := l.SetReadDeadline(time.Now().Add(limit)); err != nil {
		l.t.Fatal(err)
	}
	r, err := http.ReadResponse(l.in, &http.Request{Method: method})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		l.t.Fatalf("there was no answer within %v", limit)
	}
	if err != nil {
		return nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		body = append(body, fmt.Sprintf(" (and then: %v)", err)...) // hung up on while it was still sending
	}
	return &reply{r, body}
}

// ends waits for the server to hang up.
func (l *line) ends(limit time.Duration) {
	l.t.Helper()
	if err := l.SetReadDeadline(time.Now().Add(limit)); err != nil {
		l.t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, l.in); errors.Is(err, os.ErrDeadlineExceeded) {
		l.t.Fatalf("the connection was still open after %v", limit)
	}
}

// cut stands for a connection that ended without an answer. A client that goes on sending may miss the answer.
const cut = 0

// want asks for one of the statuses.
func want(t *testing.T, what string, r *reply, statuses ...int) {
	t.Helper()
	switch {
	case r == nil && slices.Contains(statuses, cut):
	case r == nil:
		t.Errorf("%s: the connection ended without an answer, not with one of %v", what, statuses)
	case !slices.Contains(statuses, r.StatusCode):
		t.Errorf("%s: answered %d, not %v: %.200s", what, r.StatusCode, statuses, r.body)
	}
}

// call sends a request by the client of the server, which must be answered with one of the statuses.
func call(t *testing.T, s *harness.Server, c harness.Call, statuses ...int) *harness.Reply {
	t.Helper()
	r, err := s.Do(c)
	if err == nil {
		err = r.Want(statuses...)
	}
	if err != nil {
		t.Fatal(err)
	}
	if r.Status >= 400 && c.Method != "HEAD" && len(r.Codes()) == 0 {
		t.Errorf("%s answered %d without an error that the specification knows: %s", r.Call, r.Status, r.Body)
	}
	return r
}

// begin opens an upload and returns its path.
func begin(t *testing.T, s *harness.Server, repo string) string {
	t.Helper()
	r := call(t, s, harness.Call{Method: "POST", Path: "/v2/" + repo + "/blobs/uploads/"}, 202)
	u, err := url.Parse(r.Header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	return u.Path
}

// memory returns what the server has in memory now, and at most so far, in bytes.
func memory(t *testing.T, s *harness.Server) (now, peak int64) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID()))
	if err != nil {
		t.Fatal(err)
	}
	value := func(name string) int64 {
		_, rest, _ := strings.Cut(string(text), name+":")
		n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n << 10
	}
	return value("VmRSS"), value("VmHWM")
}

// descriptors counts the open descriptors of the server.
func descriptors(t *testing.T, s *harness.Server) int {
	t.Helper()
	all, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", s.PID()))
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// at runs n of the same at once.
func at(n int, do func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { do(i) })
	}
	wg.Wait()
}
