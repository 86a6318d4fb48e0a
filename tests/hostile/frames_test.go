package hostile

import (
	"crypto/rand"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/tests/content"
	"berth/tests/harness"
)

// TestRubbish sends what is no HTTP, alone and behind a good request, which is answered before the connection ends.
func TestRubbish(t *testing.T) {
	s := start(t)
	noise := make([]byte, 100_000)
	_, _ = rand.Read(noise) // it never fails
	good := "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, rubbish := range map[string]string{
		"noise":             string(noise),
		"zeros":             string(make([]byte, 100_000)),
		"TLS":               "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + string(noise[:506]),
		"HTTP/2":            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + string(noise[:100]),
		"a newer HTTP":      "GET /v2/ HTTP/9.9\r\nHost: x\r\n\r\n",
		"an older HTTP":     "GET /v2/\r\n\r\n",
		"no host":           "GET /v2/ HTTP/1.1\r\n\r\n",
		"two hosts":         "GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"a host of rubbish": "GET /v2/ HTTP/1.1\r\nHost: a b\r\n\r\n",
		"a space in a name": "GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length : 3\r\n\r\nabc",
		"a folded header":   "GET /v2/ HTTP/1.1\r\n Host: x\r\n\r\n",
		"a zero in a value": "GET /v2/ HTTP/1.1\r\nHost: x\r\nX-A: a\x00b\r\n\r\n",
		"a bare CR":         "GET /v2/ HTTP/1.1\r\nHost: x\r\nX-A: a\rContent-Length: 9\r\n\r\n",
		"a bad method":      "G@T /v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"no path":           "GET  HTTP/1.1\r\nHost: x\r\n\r\n",
		"a bad escape":      "GET /v2/%zz HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			alone := dial(t, s)
			alone.raw(rubbish)
			if r := alone.reply("GET", timeout+slack); r != nil && (r.StatusCode < 400 || r.StatusCode >= 500) && r.StatusCode != 501 && r.StatusCode != 505 {
				t.Errorf("answered %d %.100s", r.StatusCode, r.body)
			}
			alone.ends(timeout + slack)
			behind := dial(t, s)
			behind.raw(good + good + rubbish)
			want(t, "the first", behind.reply("GET", slack), 200)
			want(t, "the second", behind.reply("GET", slack), 200)
			behind.ends(timeout + slack)
		})
	}
}

// TestPipeline sends thousands of requests without reading an answer, and then reads them all.
func TestPipeline(t *testing.T) {
	s := start(t)
	l := dial(t, s)
	const n = 3000
	go l.raw(strings.Repeat("GET /v2/bystander/manifests/v HTTP/1.1\r\nHost: x\r\n\r\n", n))
	for i := range n {
		if r := l.reply("GET", slack); r == nil || r.StatusCode != 200 || content.Digest(r.body) != image().Top().Digest {
			t.Fatalf("answer %d: %+v", i, r)
		}
	}
}

// TestHugeHeaders sends headers and paths of megabytes.
func TestHugeHeaders(t *testing.T) {
	s := start(t)
	before, _ := memory(t, s)
	for name, piece := range map[string]string{
		"GET /v2/":                                          strings.Repeat("a", 1000),
		"GET /v2/ HTTP/1.1\r\nHost: x\r\nX-A: ":             strings.Repeat("a", 1000),
		"GET /v2/ HTTP/1.1\r\nHost: x\r\n":                  strings.Repeat("X-A: a\r\n", 100),
		"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: ":  strings.Repeat("0", 1000),
		"GET /v2/_catalog?":                                 strings.Repeat("n=1&", 250),
		"PUT /v2/a/manifests/v HTTP/1.1\r\nHost: x\r\nX-A:": strings.Repeat("\t", 1000),
	} {
		at(32, func(int) {
			l := dial(t, s)
			l.raw(name)
			sent := 0
			for ; l.out == nil && sent < 20<<20; sent += len(piece) {
				l.raw(piece)
			}
			if sent > 10<<20 {
				t.Errorf("%.40q…: %d bytes were taken", name, sent)
			}
			if r := l.reply("GET", timeout+slack); r != nil && r.StatusCode != 431 && r.StatusCode != 414 && r.StatusCode != 400 {
				t.Errorf("%.40q…: answered %d", name, r.StatusCode)
			}
			l.ends(timeout + slack)
		})
	}
	if _, peak := memory(t, s); peak-before > 100<<20 {
		t.Errorf("the memory grew by %d MiB", (peak-before)>>20)
	}
	long := dial(t, s) // within the bound of a header, and yet no name
	long.send("GET /v2/%s/manifests/v HTTP/1.1\nHost: x\nConnection: close\n\n", strings.Repeat("a/", 25_000)+"a")
	want(t, "a name of 50,000 bytes", long.reply("GET", slack), 400, 404)
}

// TestIdleConnections opens 10,000 connections that do nothing: half of them after a request, half without one, which
// are cut off early.
func TestIdleConnections(t *testing.T) {
	const n = 10_000
	raiseLimit(t, n+1000)
	s := start(t, "REGISTRY_HTTP_IDLETIMEOUT=30s")
	time.Sleep(100 * time.Millisecond)
	before, _ := memory(t, s)
	idle, silent := make([]*line, n/2), make([]*line, n/2)
	at(16, func(i int) {
		for j := i; j < n/2; j += 16 {
			idle[j], silent[j] = dial(t, s), dial(t, s)
			idle[j].send("GET /v2/bystander/manifests/v HTTP/1.1\nHost: x\n\n")
			if r := idle[j].reply("GET", 2*slack); r == nil || r.StatusCode != 200 {
				t.Errorf("connection %d: %+v", j, r)
				return
			}
			idle[j].in = nil
		}
	})
	if t.Failed() {
		return
	}
	after, peak := memory(t, s)
	each := (after - before) / n
	t.Logf("%d bytes for each connection; %d MiB at most", each, peak>>20)
	if each > 24<<10 {
		t.Errorf("an idle connection takes %d bytes", each)
	}
	eventually(t, "cut off the silent ones", func() bool { return descriptors(t, s) < n/2+200 })
	if open := descriptors(t, s); open < n/2 {
		t.Errorf("only %d connections are open", open)
	}
	for _, l := range idle {
		l.Close()
	}
	eventually(t, "give the connections back", func() bool { return descriptors(t, s) < 100 })
	runtime.KeepAlive(silent)
}

// raiseLimit lets this process, and the server after it, have so many descriptors.
func raiseLimit(t *testing.T, n uint64) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur, limit.Max = max(limit.Cur, n), max(limit.Max, n)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		harness.Lacking(t, fmt.Sprintf("right to open %d descriptors", n))
	}
}

// TestOutOfDescriptors opens more connections than the server may: it goes on when they are gone.
func TestOutOfDescriptors(t *testing.T) {
	s := harness.Start(t, harness.Options{Env: []string{"REGISTRY_HTTP_READHEADERTIMEOUT=1s"}})
	set := image()
	if err := s.Push("bystander", set, "v"); err != nil {
		t.Fatal(err)
	}
	harness.Need(t, "prlimit")
	limitDescriptors(t, s.PID(), 100)
	lines := make([]*line, 300)
	for i := range lines {
		lines[i] = dial(t, s)
	}
	time.Sleep(timeout / 2)
	for _, l := range lines {
		l.Close()
	}
	eventually(t, "serve again", func() bool { return s.Verify("bystander", set) == nil })
	if err := s.Push("bystander", set, "w"); err != nil {
		t.Error(err)
	}
}

// TestManyRanges asks for thousands of ranges, and for overlapping ones: nobody gets more than the blob.
func TestManyRanges(t *testing.T) {
	s := start(t)
	blob := content.Random("ranges", 2<<20)
	if err := s.PushBlob("ranges", blob); err != nil {
		t.Fatal(err)
	}
	before, _ := memory(t, s)
	for name, ranges := range map[string]string{
		"thousands":   strings.Repeat("0-0,", 5000) + "1-1",
		"disjoint":    disjoint(3000),
		"many":        disjoint(1000),
		"zigzag":      strings.Repeat("2000000-2000001,1-2,", 500) + "1-1",
		"overlapping": strings.Repeat("0-,", 15) + "0-",
		"suffixes":    strings.Repeat("-2097152,", 15) + "-1",
		"commas":      strings.Repeat(",", 30_000) + "1-1",
		"huge":        "0-99999999999999999999999999",
		"no number":   "0-zz",
		"backwards":   "9-3",
	} {
		at(8, func(int) {
			l := dial(t, s)
			l.send("GET /v2/ranges/blobs/%s HTTP/1.1\nHost: x\nConnection: close\nRange: bytes=%s\n\n", blob.Digest, ranges)
			n, err := io.Copy(io.Discard, l.in)
			if err != nil || n > int64(len(blob.Bytes))+64<<10 {
				t.Errorf("%s: got %d bytes, %v", name, n, err)
			}
		})
	}
	if _, peak := memory(t, s); peak-before > 100<<20 {
		t.Errorf("the memory grew by %d MiB", (peak-before)>>20)
	}
}

func disjoint(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%d-%d,", i*4, i*4+1)
	}
	return b.String() + "-1"
}

// limitDescriptors lowers how many descriptors another process may have.
func limitDescriptors(t *testing.T, pid, n int) {
	t.Helper()
	out, err := exec.Command("prlimit", "--pid", strconv.Itoa(pid), fmt.Sprintf("--nofile=%d:", n)).CombinedOutput()
	if err != nil {
		t.Fatalf("prlimit: %v\n%s", err, out)
	}
}
