package observe

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sirupsen/logrus"
)

func discard() (*logrus.Logger, *bytes.Buffer) {
	var out bytes.Buffer
	l := logrus.New()
	l.SetOutput(&out)
	return l, &out
}

func TestRequestID(t *testing.T) {
	log, _ := discard()
	for given, kept := range map[string]bool{
		"abc-1.2:3_X": true, "": false, "a b": false, "a\"b": false, "a\nb": false, strings.Repeat("x", 65): false,
	} {
		var seen string
		h := Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { seen = Of(w, r).ID }), Options{}, log)
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header[IDHeader] = []string{given}
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, r)
		if answer.Header().Get(IDHeader) != seen || (seen == given) != kept || !saneID(seen) {
			t.Errorf("the id %q became %q, answered as %q", given, seen, answer.Header().Get(IDHeader))
		}
	}
}

func TestPanic(t *testing.T) {
	for name, test := range map[string]struct {
		handle http.HandlerFunc
		cut    bool
		status int
		logged bool
	}{
		"before the answer": {func(http.ResponseWriter, *http.Request) { panic("secret") }, false, 500, true},
		"after the status":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201); panic("secret") }, true, 201, true},
		"in the body":       {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "x"); panic("secret") }, true, 200, true},
		"an abort":          {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, true, 499, false},
	} {
		t.Run(name, func(t *testing.T) {
			log, logged := discard()
			var lines bytes.Buffer
			access := NewAccessLog(&lines, true)
			answer := httptest.NewRecorder()
			cut := false
			func() {
				defer func() { cut = recover() == http.ErrAbortHandler }()
				Handler(test.handle, Options{AccessLog: access}, log).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/x", nil))
			}()
			if err := access.Close(); err != nil {
				t.Fatal(err)
			}
			if cut != test.cut || strings.Contains(answer.Body.String(), "secret") {
				t.Errorf("cut is %t, want %t; the body is %q", cut, test.cut, answer.Body)
			}
			if !strings.Contains(lines.String(), `"http.response.status":`+strconv.Itoa(test.status)) {
				t.Errorf("the access log has %s, want the status %d", &lines, test.status)
			}
			if id := answer.Header().Get(IDHeader); strings.Contains(logged.String(), "secret") != test.logged || test.logged && !strings.Contains(logged.String(), id) {
				t.Errorf("the log has %q", logged)
			}
			if !test.cut && (answer.Code != test.status || !strings.Contains(answer.Body.String(), answer.Header().Get(IDHeader))) {
				t.Errorf("answered %d %s", answer.Code, answer.Body)
			}
		})
	}
}

func oneLine(t *testing.T, json bool, r *http.Request) string {
	t.Helper()
	log, _ := discard()
	var lines bytes.Buffer
	access := NewAccessLog(&lines, json)
	h := Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		Of(w, r).Subject = "ann smith"
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, "short and stout")
	}), Options{AccessLog: access}, log)
	h.ServeHTTP(httptest.NewRecorder(), r)
	if err := access.Close(); err != nil {
		t.Fatal(err)
	}
	return lines.String()
}

func hostileRequest() *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/v2/a?x=1", nil)
	r.RemoteAddr = "[2001:db8::1]:999"
	r.Header.Set("User-Agent", "evil\" \\ \n200\x00ü\xff")
	r.Header.Set(IDHeader, "id1")
	return r
}

func TestCombined(t *testing.T) {
	line := oneLine(t, false, hostileRequest())
	want := regexp.MustCompile(`^2001:db8::1 - ann_smith \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [-+]\d{4}\] "GET /v2/a\?x=1 HTTP/1.1" 418 15 "" ` +
		`"evil\\" \\\\ \\u000a200\\u0000ü` + "\ufffd" + `" id1 \d+\n$`)
	if !want.MatchString(line) {
		t.Errorf("the line is %q", line)
	}
}

func TestJSONLine(t *testing.T) {
	var got map[string]any
	if err := json.Unmarshal([]byte(oneLine(t, true, hostileRequest())), &got); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"http.request.id": "id1", "http.request.uri": "/v2/a?x=1", "http.request.useragent": "evil\" \\ \n200\x00ü\ufffd",
		"http.response.status": 418.0, "http.response.written": 15.0, "auth.user.name": "ann smith", "level": "info",
	} {
		if got[name] != want {
			t.Errorf("%s is %#v, want %#v", name, got[name], want)
		}
	}
	if _, err := time.Parse(time.RFC3339Nano, got["time"].(string)); err != nil {
		t.Error(err)
	}
}

// brokenWriter fails, and remembers what it was given.
type brokenWriter struct {
	mu  sync.Mutex
	got bytes.Buffer
	err error
}

func (w *brokenWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.got.Write(p)
	return len(p), w.err
}

func TestNoLineIsLost(t *testing.T) {
	const writers, each = 8, 2000
	log, _ := discard()
	out := &brokenWriter{}
	access := NewAccessLog(out, false)
	h := Handler(http.NotFoundHandler(), Options{AccessLog: access}, log)
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for range each {
				h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
			}
		})
	}
	group.Wait()
	if err := access.Close(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(out.got.String(), "\n"); got != writers*each {
		t.Errorf("%d lines were written, want %d", got, writers*each)
	}
}

func TestAccessLogError(t *testing.T) {
	log, _ := discard()
	out := &brokenWriter{err: errors.New("no space")}
	access := NewAccessLog(out, false)
	Handler(http.NotFoundHandler(), Options{AccessLog: access}, log).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	if err := access.Close(); !errors.Is(err, out.err) {
		t.Errorf("closing returned %v", err)
	}
}

// TestQuiet asks how the server is, over and over: there is a line when the answer changes, and one a minute.
func TestQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, _ := discard()
		out := &brokenWriter{}
		access := NewAccessLog(out, false)
		status := http.StatusOK
		h := Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { Of(w, r).Quiet = true; w.WriteHeader(status) }), Options{AccessLog: access}, log)
		for second := range 150 {
			if second == 100 {
				status = http.StatusServiceUnavailable
			}
			for _, path := range []string{"/readyz", "/readyz?no=" + strconv.Itoa(second)} {
				h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path, nil))
			}
			time.Sleep(time.Second)
		}
		if err := access.Close(); err != nil || strings.Count(out.got.String(), "\n") != 3 || strings.Count(out.got.String(), `" 503 `) != 1 {
			t.Errorf("logged %q, %v", &out.got, err)
		}
	})
}

// TestStampsFollowTheClock: also when it is set back, and to before 1970.
func TestStampsFollowTheClock(t *testing.T) {
	l := NewAccessLog(io.Discard, false)
	defer l.Close()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for _, at := range []int64{1e9, 1e9, 1e9 + 1, 1e9, 1e9 + 86400, 0, -1} {
		now := time.Unix(at, 999)
		line := string(l.combined(nil, &Exchange{}, r, now))
		if want := now.Format("[02/Jan/2006:15:04:05 -0700]"); !strings.Contains(line, want) {
			t.Errorf("%q has not %s", line, want)
		}
	}
}

// FuzzEscaped: whatever is written between quotes stays there, and says the same.
func FuzzEscaped(f *testing.F) {
	for _, seed := range []string{"", "plain", `"`, `\`, "a\nb", "\x00\x1f\x7f", "é\u2028\u0085x", "\xff\xfe", `a"b\c`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b := appendEscaped([]byte(`"`), s)
		var got string
		if err := json.Unmarshal(append(b, '"'), &got); err != nil {
			t.Fatalf("%q: %q: %v", s, b, err)
		}
		want := strings.Map(func(r rune) rune {
			if r >= utf8.RuneSelf && !unicode.IsPrint(r) {
				return utf8.RuneError
			}
			return r
		}, s)
		if got != want || bytes.ContainsFunc(b, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\u2028' || r == '\u0085' }) {
			t.Errorf("%q is written as %q", s, b)
		}
	})
}
