package htpasswd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"berth/auth"
)

func TestAddAndRemove(t *testing.T) {
	path := filepath.Join(t.TempDir(), "htpasswd")
	if replaced, err := add(path, "alice", "secret", bcrypt.MinCost); replaced || err != nil {
		t.Fatal(replaced, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a new file: %v, %v", info.Mode(), err)
	}
	if replaced, err := Add(path, "alice", "other"); !replaced || err != nil {
		t.Fatal(replaced, err)
	}
	for _, test := range []struct {
		user, password string
		want           error
	}{{"alice", "other", nil}, {"alice", "secret", auth.ErrCredentials}, {"bob", "other", ErrNoUser}} {
		if err := Check(path, test.user, test.password); !errors.Is(err, test.want) {
			t.Errorf("%s:%s: got %v, want %v", test.user, test.password, err, test.want)
		}
	}
	users, err := List(path)
	if err != nil || fmt.Sprint(users) != "[{alice bcrypt 1}]" {
		t.Errorf("got %v, %v", users, err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := bcrypt.Cost(trimEnd(data)[len("alice:"):]); err != nil || got < 10 {
		t.Errorf("the cost of the hash is %d, %v", got, err)
	}
	if err := Remove(path, "alice"); err != nil {
		t.Fatal(err)
	}
	if err := Remove(path, "alice"); !errors.Is(err, ErrNoUser) {
		t.Errorf("removed twice: %v", err)
	}
	if err := Remove(path+"2", "alice"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed from a missing file: %v", err)
	}
	onlyFile(t, path)
}

// onlyFile expects that nothing is left beside a file: no lock, nothing temporary.
func onlyFile(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the file there are %v, %v", entries, err)
	}
}

func TestEditKeepsTheRest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "htpasswd")
	head := "# by hand\n\nalice:" + someHash + "\r\n  # bob left\n"
	if err := errors.Join(os.WriteFile(path, []byte(head+"carol:"+someHash), 0o600), os.Chmod(path, 0o640)); err != nil {
		t.Fatal(err)
	}
	if _, err := add(path, "dave", "secret", bcrypt.MinCost); err != nil {
		t.Fatal(err)
	}
	if err := Remove(path, "carol"); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(data), head+"dave:$2a$") || strings.Count(string(data), "\n") != 5 {
		t.Errorf("the file is %q, %v", data, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the mode is %v, %v", info.Mode(), err)
	}
}

func TestEditFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "htpasswd"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Symlink("htpasswd", link)); err != nil {
		t.Fatal(err)
	}
	if _, err := add(link, "alice", "secret", bcrypt.MinCost); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != fs.ModeSymlink {
		t.Errorf("the link is %v, %v", info.Mode(), err)
	}
	if err := Check(path, "alice", "secret"); err != nil {
		t.Error(err)
	}
}

// A line that is not taken is mended by adding its user anew; another one's stands in the way and is named.
func TestEditOfMalformedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "htpasswd")
	content := "alice:" + someHash + "\nbob:$apr1$x$y\n"
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Remove(path, "alice"); err == nil || !strings.Contains(err.Error(), path+":1: the hash is MD5") {
		t.Errorf("got %v", err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != content {
		t.Errorf("the file is %q, %v", data, err)
	}
	if replaced, err := add(path, "bob", "secret", bcrypt.MinCost); !replaced || err != nil {
		t.Errorf("got %t, %v", replaced, err)
	}
	onlyFile(t, path)
}

func TestAddRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "htpasswd")
	for _, test := range []struct{ user, password, want string }{
		{"", "secret", "empty"},
		{"kube:admin", "secret", "colon"},
		{"al\nice", "secret", "control"},
		{"#alice", "secret", "comment"},
		{" alice", "secret", "blank"},
		{strings.Repeat("a", 256), "secret", "longer than 255"},
		{"alice", "", "empty"},
		{"alice", "a\x00b", "control"},
		{"alice", strings.Repeat("a", 73), "72"},
	} {
		if _, err := Add(path, test.user, test.password); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%.20q, %.20q: got %v, want an error about %q", test.user, test.password, err, test.want)
		} else if test.password != "" && strings.Contains(err.Error(), test.password) {
			t.Errorf("the error has the password: %v", err)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file was made: %v", err)
	}
}

// Many edits at once lose nothing: here by goroutines, each with a lock of its own, as processes have it.
func TestConcurrentEdits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "htpasswd")
	var group sync.WaitGroup
	for i := range 40 {
		group.Go(func() {
			err := edit(path, true, func(data []byte) ([]byte, error) {
				return fmt.Appendf(data, "user%d:%s\n", i, someHash), nil
			})
			if err != nil {
				t.Error(err)
			}
			if i%2 == 0 {
				if err := Remove(path, fmt.Sprintf("user%d", i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	users, err := List(path)
	if err != nil || len(users) != 20 {
		t.Errorf("%d users are left, want 20; %v", len(users), err)
	}
	onlyFile(t, path)
}

func TestEditCannotWrite(t *testing.T) {
	dir := t.TempDir()
	if _, err := add(filepath.Join(dir, "missing", "htpasswd"), "alice", "secret", bcrypt.MinCost); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := add(dir, "alice", "secret", bcrypt.MinCost); err == nil {
		t.Error("a directory was edited")
	}
}

func TestOwnerIsKept(t *testing.T) {
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 { // who alone gives files away
		uid, gid = 1234, 5678
	}
	path := filepath.Join(t.TempDir(), "htpasswd")
	if err := errors.Join(os.WriteFile(path, nil, 0o640), os.Chown(path, uid, gid)); err != nil {
		t.Fatal(err)
	}
	if _, err := add(path, "alice", "secret", bcrypt.MinCost); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || int(stat.Uid) != uid || int(stat.Gid) != gid {
		t.Errorf("the owner is %+v, want %d:%d", stat, uid, gid)
	}
}
