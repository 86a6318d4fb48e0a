package hostile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/tests/content"
	"berth/tests/harness"
)

// TestSlowHeaders sends headers a byte at a time: such connections are cut off, and those that say nothing.
func TestSlowHeaders(t *testing.T) {
	s := start(t)
	for name, opening := range map[string]string{
		"silent": "", "in the line": "GET /v2/ HT", "in the header": "GET /v2/ HTTP/1.1\r\nHost: x\r\nX-A: ",
		"after a request": "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\nGET /v2/ HTTP/1.1\r\nHost: x\r\nX-A: ",
	} {
		t.Run(name, func(t *testing.T) {
			at(50, func(int) {
				l := dial(t, s)
				l.raw(opening)
				for begun := time.Now(); l.out == nil && opening != ""; time.Sleep(50 * time.Millisecond) {
					if time.Since(begun) > timeout+slack {
						t.Errorf("a header may take %v", time.Since(begun))
						return
					}
					l.raw("a")
				}
				l.ends(timeout + slack)
			})
		})
	}
}

// TestStalledBodies sends a part of a body and no more.
func TestStalledBodies(t *testing.T) {
	s := start(t)
	const head = "Host: x\nContent-Type: application/octet-stream\n"
	big := content.Random("stalled", 300_000)
	for name, opening := range map[string]func() string{
		"one POST": func() string {
			return "POST /v2/slow/blobs/uploads/?digest=" + big.Digest + " HTTP/1.1\n" + head + "Content-Length: 300000\n\nabc"
		},
		"PUT": func() string {
			return "PUT " + begin(t, s, "slow") + "?digest=" + big.Digest + " HTTP/1.1\n" + head + "Content-Length: 300000\n\nabc"
		},
		"chunked PUT": func() string {
			return "PUT " + begin(t, s, "slow") + "?digest=" + big.Digest + " HTTP/1.1\n" + head + "Transfer-Encoding: chunked\n\n3\nabc\n"
		},
		"manifest": func() string { return "PUT /v2/slow/manifests/v HTTP/1.1\n" + head + "Content-Length: 2000\n\n{" },
		"a body that nobody reads": func() string {
			return "GET /v2/ HTTP/1.1\n" + head + "Content-Length: 2000\n\nabc"
		},
	} {
		t.Run(name, func(t *testing.T) {
			at(8, func(int) {
				l := dial(t, s)
				l.send("%s", opening())
				if r := l.reply("PUT", timeout+slack); r != nil && r.StatusCode != 200 {
					want(t, name, r, 408)
				}
				l.ends(timeout + slack)
			})
		})
	}
	for _, digest := range []string{big.Digest, content.Digest([]byte("abc"))} {
		call(t, s, harness.Call{Method: "HEAD", Path: "/v2/slow/blobs/" + digest}, 404)
	}
}

// TestStalledChunk sends a part of a chunk of an upload and no more: what came is kept, and the upload goes on there.
func TestStalledChunk(t *testing.T) {
	s := start(t)
	blob := content.Random("chunk", 5000)
	path := begin(t, s, "slow")
	l := dial(t, s)
	l.send("PATCH %s HTTP/1.1\nHost: x\nContent-Type: application/octet-stream\nContent-Range: 0-4999\nContent-Length: 5000\n\n", path)
	l.raw(string(blob.Bytes[:2000]))
	want(t, "a stalled chunk", l.reply("PATCH", timeout+slack), 408)
	l.ends(slack)
	if r := call(t, s, harness.Call{Method: "GET", Path: path}, 204); r.Header.Get("Range") != "0-1999" {
		t.Errorf("the upload stands at %q", r.Header.Get("Range"))
	}
	call(t, s, harness.Call{Method: "PUT", Path: path, Query: url.Values{"digest": {blob.Digest}}, Body: blob.Bytes[2000:]}, 201)
	if _, err := s.PullBlob("slow", blob.Digest); err != nil {
		t.Error(err)
	}
}

// TestSlowIsNotStalled uploads for much longer than the timeout, a little at a time.
func TestSlowIsNotStalled(t *testing.T) {
	s := start(t)
	blob := content.Random("slow", 60_000)
	r := call(t, s, harness.Call{Method: "POST", Path: "/v2/slow/blobs/uploads/", Query: url.Values{"digest": {blob.Digest}},
		Stream: &drip{rest: blob.Bytes, size: 6000, pause: timeout * 4 / 10}}, 201)
	if r.Header.Get("Docker-Content-Digest") != blob.Digest {
		t.Errorf("stored as %q", r.Header.Get("Docker-Content-Digest"))
	}
}

// TestSlowDownload reads some kilobytes a second for many times the timeout, and then the rest: it must get all of it. The
// kernel of the server counts room for more bytes only by the megabyte, so that such a client seems to stand still.
func TestSlowDownload(t *testing.T) {
	s := start(t)
	large := content.Random("slow download", 24<<20)
	if err := s.PushBlob("slow", large); err != nil {
		t.Fatal(err)
	}
	for name, requested := range map[string]string{"whole": "", "range": "Range: bytes=1-\n"} { // by sendfile, and that of a part
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := dialAfar(t, s)
			l.send("GET /v2/slow/blobs/%s HTTP/1.1\nHost: x\nConnection: close\n%s\n", large.Digest, requested)
			got := &bytes.Buffer{}
			for range 100 {
				time.Sleep(timeout / 10)
				_, _ = io.CopyN(got, l.in, 3000) // an error is found by what is missing
			}
			_, _ = io.Copy(got, l.in)
			_, body, _ := bytes.Cut(got.Bytes(), []byte("\r\n\r\n"))
			if whole := large.Bytes[min(1, len(requested)):]; !bytes.Equal(body, whole) {
				t.Errorf("a slow download got %d of %d bytes", len(body), len(whole))
			}
		})
	}
}

// dialAfar connects as over a network: in segments of some 1,400 bytes, and with a small buffer. On this machine alone a
// segment has 64 KiB, and a client tells of no less that it has read.
func dialAfar(t *testing.T, s *harness.Server) *line {
	t.Helper()
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		if controlErr := raw.Control(func(fd uintptr) {
			err = errors.Join(syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 1400),
				syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 16<<10))
		}); controlErr != nil {
			return controlErr
		}
		return err
	}}
	c, err := d.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &line{Conn: c, t: t, in: bufio.NewReader(c)}
}

// drip reads a little at a time.
type drip struct {
	rest  []byte
	size  int
	pause time.Duration
}

func (d *drip) Read(p []byte) (int, error) {
	if len(d.rest) == 0 {
		return 0, io.EOF
	}
	time.Sleep(d.pause)
	n := copy(p, d.rest[:min(d.size, len(d.rest))])
	d.rest = d.rest[n:]
	return n, nil
}

// small lets the connection buffer little of what it does not read.
func small(t *testing.T, l *line) {
	t.Helper()
	if err := l.Conn.(*net.TCPConn).SetReadBuffer(256 << 10); err != nil {
		t.Fatal(err)
	}
}

// TestStalledDownloads asks for large blobs and does not read them.
func TestStalledDownloads(t *testing.T) {
	s := start(t)
	large := content.Random("stalled download", 48<<20)
	if err := s.PushBlob("slow", large); err != nil {
		t.Fatal(err)
	}
	for name, header := range map[string]string{"whole": "", "range": "Range: bytes=5-\n", "ranges": "Range: bytes=5-20000000,20000005-\n"} {
		t.Run(name, func(t *testing.T) {
			before := descriptors(t, s)
			lines := make([]*line, 30)
			for i := range lines {
				lines[i] = dial(t, s)
				small(t, lines[i])
				lines[i].send("GET /v2/slow/blobs/%s HTTP/1.1\nHost: x\nConnection: close\n%s\n", large.Digest, header)
			}
			eventually(t, "begin to answer", func() bool { return descriptors(t, s) >= before+len(lines) })
			eventually(t, "cut off the clients that do not read", func() bool { return descriptors(t, s) <= before+5 })
			for _, l := range lines {
				if n, _ := io.Copy(io.Discard, l.in); n >= int64(len(large.Bytes)) {
					t.Errorf("a client that did not read got %d bytes", n)
				}
			}
		})
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(timeout + 2*slack); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the server did not %s", what)
		}
	}
}

// TestHalfClosed sends requests, whole and cut short, and closes its side of the connection.
func TestHalfClosed(t *testing.T) {
	s := start(t)
	before := descriptors(t, s)
	blob := content.Random("half", 4000)
	post := "POST /v2/half/blobs/uploads/?digest=" + blob.Digest + " HTTP/1.1\nHost: x\nContent-Type: application/octet-stream\nContent-Length: 4000\n\n"
	for name, text := range map[string]string{
		"nothing": "", "half a line": "GET /v", "half a header": "GET /v2/ HTTP/1.1\nHo", "no body": post,
		"half a chunk": strings.Replace(post, "Content-Length: 4000", "Transfer-Encoding: chunked", 1) + "ff\nabc",
	} {
		t.Run(name, func(t *testing.T) {
			at(20, func(int) {
				l := dial(t, s)
				l.send("%s", text)
				if err := l.Conn.(*net.TCPConn).CloseWrite(); err != nil {
					t.Error(err)
				}
				if r := l.reply("POST", timeout+slack); r != nil && r.StatusCode < 400 {
					t.Errorf("half a request was answered %d", r.StatusCode)
				}
				l.ends(timeout + slack)
			})
		})
	}
	call(t, s, harness.Call{Method: "HEAD", Path: "/v2/half/blobs/" + blob.Digest}, 404)
	whole := dial(t, s)
	whole.send("%s", post)
	whole.raw(string(blob.Bytes))
	if err := whole.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if r := whole.reply("POST", slack); r != nil { // a server may take the end of a request's sender for its leaving
		want(t, "a whole request", r, 201)
	}
	eventually(t, "give the connections back", func() bool { return descriptors(t, s) <= before+5 })
}

// TestLengths sends bodies that are not as long as announced.
func TestLengths(t *testing.T) {
	s := start(t)
	blob := content.Random("length", 4000)
	for name, c := range map[string]struct {
		announced string
		body      []byte
		statuses  []int
		stored    bool
	}{
		"longer than announced":  {"Content-Length: 4000", append(blob.Bytes[:4000:4000], "and more of it\r\n\r\n"...), []int{201}, true},
		"longer, and not ours":   {"Content-Length: 3900", blob.Bytes, []int{400}, false},
		"shorter than announced": {"Content-Length: 4001", blob.Bytes, []int{400, 408}, false},
		"far shorter":            {"Content-Length: 9223372036854775807", blob.Bytes, []int{400, 408, 413}, false},
		"more than a number":     {"Content-Length: 9223372036854775808", blob.Bytes, []int{400, cut}, false},
		"negative":               {"Content-Length: -1", blob.Bytes, []int{400, cut}, false},
		"no number":              {"Content-Length: 0x10", blob.Bytes, []int{400, cut}, false},
		"two lengths":            {"Content-Length: 4000\nContent-Length: 10", blob.Bytes, []int{400, cut}, false},
		"a list of lengths":      {"Content-Length: 4000, 10", blob.Bytes, []int{400, cut}, false},
		"an unknown encoding":    {"Transfer-Encoding: gzip", blob.Bytes, []int{400, 501, cut}, false},
		"two encodings":          {"Transfer-Encoding: gzip, chunked", blob.Bytes, []int{400, 501, cut}, false},
		"a hidden encoding":      {"Transfer-Encoding: xchunked", blob.Bytes, []int{400, 501, cut}, false},
		"a chunk of rubbish":     {"Transfer-Encoding: chunked", []byte("zz\r\nabc\r\n0\r\n\r\n"), []int{400, cut}, false},
		"a chunk too large":      {"Transfer-Encoding: chunked", []byte("fffffffffffffffff\r\nabc\r\n0\r\n\r\n"), []int{400, cut}, false},
		"a chunk without an end": {"Transfer-Encoding: chunked", []byte("3\r\nabcdef\r\n0\r\n\r\n"), []int{400, cut}, false},
	} {
		t.Run(name, func(t *testing.T) {
			repo := "length/" + strings.ReplaceAll(strings.ReplaceAll(name, ",", ""), " ", "-")
			l := dial(t, s)
			l.send("POST /v2/%s/blobs/uploads/?digest=%s HTTP/1.1\nHost: x\nContent-Type: application/octet-stream\n%s\n\n", repo, blob.Digest, c.announced)
			l.raw(string(c.body))
			want(t, name, l.reply("POST", timeout+slack), c.statuses...)
			if !c.stored {
				l.ends(timeout + slack)
			} else {
				want(t, "what was more", l.reply("GET", timeout+slack), 400)
			}
			status := 404
			if c.stored {
				status = 200
			}
			call(t, s, harness.Call{Method: "HEAD", Path: "/v2/" + repo + "/blobs/" + blob.Digest}, status)
		})
	}
}

// TestLengthAndChunks announces a length and sends chunks, by which one request is smuggled inside another where two
// servers differ. Ours goes by the chunks alone (RFC 9112 section 6.3): what follows them is another request.
func TestLengthAndChunks(t *testing.T) {
	s := start(t)
	blob := content.Random("both", 40)
	inner := "GET /v2/none/manifests/v HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, order := range []string{"Content-Length: %d\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\nContent-Length: %d"} {
		l := dial(t, s)
		body := fmt.Sprintf("28\r\n%s\r\n0\r\n\r\n", blob.Bytes)
		l.send("POST /v2/both/blobs/uploads/?digest=%s HTTP/1.1\nHost: x\n"+order+"\n\n", blob.Digest, len(body)+len(inner))
		l.raw(body + inner)
		if r := l.reply("POST", timeout+slack); r != nil && r.StatusCode == 400 {
			l.ends(slack) // refusing it is right as well
		} else {
			want(t, "a body in chunks", r, 201)
			want(t, "the request after it", l.reply("GET", slack), 404)
		}
	}
}

// TestEndlessManifest sends a manifest that does not end (zot #3977): the answer comes long before.
func TestEndlessManifest(t *testing.T) {
	s := start(t)
	before, _ := memory(t, s)
	at(16, func(int) {
		l := dial(t, s)
		l.send("PUT /v2/endless/manifests/v HTTP/1.1\nHost: x\nContent-Type: %s\nTransfer-Encoding: chunked\n\n", content.ImageManifest)
		piece := "10000\r\n" + strings.Repeat(" ", 65536) + "\r\n"
		sent := 0
		for ; l.out == nil && sent < 1<<30; sent += 65536 {
			l.raw(piece)
		}
		if sent > 64<<20 {
			t.Errorf("%d bytes of a manifest were taken", sent)
		}
	})
	if _, peak := memory(t, s); peak-before > 250<<20 {
		t.Errorf("the memory grew by %d MiB", (peak-before)>>20)
	}
	r := call(t, s, harness.Call{Method: "PUT", Path: "/v2/endless/manifests/v", Body: make([]byte, 5<<20),
		Header: http.Header{"Content-Type": {content.ImageManifest}}}, 413)
	if r.Codes()[0] != "MANIFEST_INVALID" {
		t.Errorf("%s", r.Body)
	}
}
