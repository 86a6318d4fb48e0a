package operate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"berth/tests/content"
	"berth/tests/harness"
)

// tool runs the binary without a server.
func tool(t *testing.T, stdin string, args ...string) {
	t.Helper()
	binary, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("berth %q: %v\n%s", args, err, out)
	}
}

// TestReloadUnderLoad changes users, certificates and the configuration while clients pull and push over connections that
// stay: no request fails, and no connection is dropped.
func TestReloadUnderLoad(t *testing.T) {
	dir := t.TempDir()
	users := filepath.Join(dir, "users")
	tool(t, "", "tls", "self-signed", "--out", dir, "127.0.0.1")
	tool(t, "ann-secret\n", "user", "add", users, "ann")
	s := harness.Start(t, harness.Options{TLS: dir, Env: []string{"REGISTRY_AUTH_HTPASSWD_REALM=x", "REGISTRY_AUTH_HTPASSWD_PATH=" + users}})
	s.User, s.Password = "ann", "ann-secret"
	set := content.Algorithm(content.Digest).Image("load", content.AMD64(), []int{3000, 100_000}, nil)
	if err := s.Push("load/a", set, "v"); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	var asked, connections atomic.Int64
	const clients = 6
	for n := range clients {
		running.Go(func() {
			c := &steady{s: s, connections: &connections}
			for i := 0; ctx.Err() == nil; i++ {
				if err := c.once(n, i); err != nil {
					t.Errorf("client %d, request %d: %v", n, i, err)
					return
				}
				asked.Add(1)
			}
		})
	}
	before := certificate(t, s.Addr)
	for round := range 6 {
		target := asked.Load() + 60
		for deadline := time.Now().Add(20 * time.Second); asked.Load() < target && time.Now().Before(deadline); {
			time.Sleep(5 * time.Millisecond)
		}
		tool(t, "x-secret\n", "user", "add", users, fmt.Sprintf("user%d", round))
		tool(t, "", "tls", "self-signed", "--out", filepath.Join(dir, "next"), "127.0.0.1")
		for _, name := range []string{"tls.key", "tls.crt"} {
			if err := os.Rename(filepath.Join(dir, "next", name), filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.RemoveAll(filepath.Join(dir, "next")); err != nil {
			t.Fatal(err)
		}
		if round%2 == 0 {
			want(t, s, true, "^reloaded: no key has changed", "reload")
		} else if err := syscall.Kill(s.PID(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	want(t, s, true, "^reloaded: no key has changed", "reload")
	if bytes.Equal(before, certificate(t, s.Addr)) {
		t.Error("new connections are shown the old certificate")
	}
	stop()
	running.Wait()
	if n := connections.Load(); n != clients {
		t.Errorf("%d clients needed %d connections", clients, n)
	}
	t.Logf("%d requests over %d connections, 6 new certificates, 6 new users, 7 reloads", asked.Load(), connections.Load())
}

// A steady client keeps its connection, and counts how many it needed.
type steady struct {
	s           *harness.Server
	connections *atomic.Int64
	http        *http.Client
}

// once pulls a manifest, or pushes a blob.
func (c *steady) once(client, request int) error {
	if c.http == nil {
		dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
			c.connections.Add(1)
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
		// Which authority made the certificate is not what is tried here.
		c.http = &http.Client{Transport: &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, Timeout: time.Minute}
	}
	method, path, body, status := "GET", "/v2/load/a/manifests/v", []byte(nil), 200
	if request%5 == 4 {
		blob := content.Random(fmt.Sprint(client, request), 20_000)
		method, path, body, status = "POST", "/v2/load/a/blobs/uploads/?digest="+blob.Digest, blob.Bytes, 201
	}
	r, err := http.NewRequest(method, c.s.Base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.SetBasicAuth(c.s.User, c.s.Password)
	answer, err := c.http.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != status {
		return errors.New(answer.Status)
	}
	return nil
}

// certificate is the one that new connections are shown.
func certificate(t *testing.T, addr string) []byte {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].Raw
}

const gibibyte = 1 << 30

// A flow is so many bytes that follow a pattern. It stops at a place until it may go on.
type flow struct {
	left, stopAt int64
	reached      chan struct{} // closed at stopAt
	proceed      chan struct{}
}

func newFlow(size, stopAt int64) *flow {
	return &flow{size, stopAt, make(chan struct{}), make(chan struct{})}
}

func (f *flow) Read(p []byte) (int, error) {
	if f.left == 0 {
		return 0, io.EOF
	}
	if f.stopAt == 0 {
		close(f.reached)
		<-f.proceed
	}
	n := min(int64(len(p)), f.left)
	if f.stopAt > 0 {
		n = min(n, f.stopAt)
	}
	clear(p[:n])
	f.left, f.stopAt = f.left-n, f.stopAt-n
	return int(n), nil
}

// zeros is the digest of so many zero bytes.
func zeros(size int64) string {
	h := sha256.New()
	_, _ = io.CopyN(h, &flow{left: size, stopAt: -1}, size) // neither fails
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// begin begins an upload and returns where it goes on.
func begin(t *testing.T, s *harness.Server) string {
	t.Helper()
	r, err := s.Do(harness.Call{Method: "POST", Path: "/v2/big/a/blobs/uploads/"})
	if err == nil {
		err = r.Want(202)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r.Header.Get("Location")
}

// finish closes an upload.
func finish(t *testing.T, s *harness.Server, location, digest string) {
	t.Helper()
	r, err := s.Do(harness.Call{Method: "PUT", Path: location, Query: url.Values{"digest": {digest}}})
	if err == nil {
		err = r.Want(201)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestDrainUnderTransfers stops a server in the midst of a push and a pull of 1 GiB each: both are finished. What was pushed is
// closed with the next process.
func TestDrainUnderTransfers(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	digest := zeros(gibibyte)
	location := begin(t, s)
	if r, err := s.Do(harness.Call{Method: "PATCH", Path: location, Stream: newFlowFreely(gibibyte)}); err != nil || r.Want(202) != nil {
		t.Fatalf("%+v, %v", r, err)
	}
	finish(t, s, location, digest)

	push, location := newFlow(gibibyte, gibibyte/2), begin(t, s)
	pushed := make(chan error, 1)
	go func() {
		r, err := s.Do(harness.Call{Method: "PATCH", Path: location, Stream: push})
		if err == nil {
			err = r.Want(202)
		}
		pushed <- err
	}()
	pulled, half, goOn := make(chan error, 1), make(chan struct{}), make(chan struct{})
	go func() { pulled <- pull(s.Base+"/v2/big/a/blobs/"+digest, digest, half, goOn) }()
	<-push.reached
	<-half
	time.AfterFunc(500*time.Millisecond, func() { close(push.proceed); close(goOn) }) // both go on after the signal
	s.Stop()
	if err := <-pushed; err != nil {
		t.Errorf("the push: %v", err)
	}
	if err := <-pulled; err != nil {
		t.Errorf("the pull: %v", err)
	}
	s.CloseIdle()
	s.Restart()
	finish(t, s, location, digest)
}

func newFlowFreely(size int64) *flow { return &flow{left: size, stopAt: -1} }

// pull reads a blob of 1 GiB, and waits in its middle.
func pull(from, digest string, half, goOn chan struct{}) error {
	r, err := http.Get(from)
	if err != nil {
		close(half)
		return err
	}
	defer r.Body.Close()
	h := sha256.New()
	_, err = io.CopyN(h, r.Body, gibibyte/2)
	close(half)
	if err != nil {
		return err
	}
	<-goOn
	if _, err := io.Copy(h, r.Body); err != nil {
		return err
	}
	if got := "sha256:" + hex.EncodeToString(h.Sum(nil)); got != digest {
		return fmt.Errorf("got %s", got)
	}
	return nil
}

// TestCutUploadsGoOn stops a server that does not wait for a push: the next one has what came, and takes the rest.
func TestCutUploadsGoOn(t *testing.T) {
	const size = 64 << 20
	s := harness.Start(t, harness.Options{Env: []string{"REGISTRY_HTTP_DRAINTIMEOUT=200ms"}})
	location := begin(t, s)
	push := newFlow(size, size/2)
	pushed := make(chan struct{})
	go func() {
		_, _ = s.Do(harness.Call{Method: "PATCH", Path: location, Stream: push}) // it is cut
		close(pushed)
	}()
	<-push.reached
	s.Stop()
	close(push.proceed)
	<-pushed
	s.CloseIdle()
	s.Restart()
	r, err := s.Get(location)
	if err == nil {
		err = r.Want(204)
	}
	if err != nil {
		t.Fatal(err)
	}
	var last int64
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "0-%d", &last); err != nil || last < size/4 || last >= size/2 {
		t.Fatalf("the next process has %q of %d bytes that were sent", r.Header.Get("Range"), size/2)
	}
	rest := harness.Call{Method: "PATCH", Path: r.Header.Get("Location"), Body: make([]byte, size-last-1),
		Header: http.Header{"Content-Range": {fmt.Sprintf("%d-%d", last+1, size-1)}, "Content-Type": {"application/octet-stream"}}}
	if r, err = s.Do(rest); err == nil {
		err = r.Want(202)
	}
	if err != nil {
		t.Fatal(err)
	}
	finish(t, s, r.Header.Get("Location"), zeros(size))
	t.Logf("%d of %d bytes were kept", last+1, size/2)
}
