package harness

import (
	"context"
	"errors"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// refuseLimit is how long a server may take to say what is wrong with its storage.
const refuseLimit = 10*time.Second + 2*time.Second // the start of a process on a busy machine

// Silent returns an address that accepts connections and says nothing.
func Silent(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// Refuses runs a registry with a storage that it must refuse, by ending in time and without listening, and returns its log.
func Refuses(t testing.TB, driver string, env []string) string {
	t.Helper()
	binary, err := Binary()
	if err != nil {
		t.Fatal(err)
	}
	addr := FreeAddr(t)
	ctx, cancel := context.WithTimeout(t.Context(), refuseLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "serve", "/dev/stdin")
	cmd.Stdin = strings.NewReader("version: 0.1\nstorage: {" + driver + ": {}}\nhttp: {addr: '" + addr + "'}\n")
	cmd.Env = append([]string{"PATH=/usr/bin:/bin", "HOME=" + t.TempDir()}, env...)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if c, err := net.Dial("tcp", addr); err == nil {
				c.Close()
				t.Error("the registry listens")
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if ctx.Err() != nil || !errors.As(err, &exit) {
		t.Errorf("the registry ended with %v, %v", err, ctx.Err())
	}
	cancel()
	<-done
	return string(out)
}
