package reload

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// fixture is a File over a file that the test writes, by a clock that the test turns.
type fixture struct {
	t       *testing.T
	path    string
	now     time.Time
	parsed  int
	errs    []error
	reloads int
}

func parse(f *fixture) func(string, []byte) (string, error) {
	return func(path string, data []byte) (string, error) {
		f.parsed++
		if strings.HasPrefix(string(data), "bad") {
			return "", fmt.Errorf("%s: line 1: %s", path, data)
		}
		return string(data), nil
	}
}

func newFixture(t *testing.T, content string) (*fixture, *File[string]) {
	t.Helper()
	f := &fixture{t: t, path: filepath.Join(t.TempDir(), "f"), now: time.Now()}
	f.write(content, f.now)
	file, err := Open(f.path, 64, parse(f), &Options{
		OnError:  func(err error) { f.errs = append(f.errs, err) },
		OnReload: func() { f.reloads++ },
		now:      func() time.Time { return f.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	return f, file
}

func (f *fixture) write(content string, changed time.Time) {
	f.t.Helper()
	if err := os.WriteFile(f.path, []byte(content), 0o600); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Chtimes(f.path, changed, changed); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) want(file *File[string], value string) {
	f.t.Helper()
	if got := *file.Get(); got != value {
		f.t.Fatalf("got %q, want %q", got, value)
	}
}

func TestChangeIsSeenWithinInterval(t *testing.T) {
	f, file := newFixture(t, "one")
	f.write("two", f.now)
	f.want(file, "one") // looked at just now
	f.now = f.now.Add(Interval)
	f.want(file, "two")
	if f.reloads != 1 {
		t.Errorf("%d reloads told of, want 1", f.reloads)
	}
}

func TestVersion(t *testing.T) {
	f, file := newFixture(t, "one")
	first := file.Version()
	f.now = f.now.Add(time.Minute)
	f.write("bad", f.now)
	if file.Version() != first {
		t.Error("a file that does not take effect has another version")
	}
	f.now = f.now.Add(time.Minute)
	f.write("two", f.now)
	if got := file.Version(); got == first || file.Version() != got {
		t.Errorf("the version is %d after a change, it was %d", got, first)
	}
}

func TestRefreshLooksAtOnce(t *testing.T) {
	f, file := newFixture(t, "one")
	f.write("two", f.now)
	file.Refresh()
	f.want(file, "two")
}

// Two changes of the same size within the granularity of the filesystem's clock leave the same size, time and inode.
func TestChangeWithinTheClocksGranularityIsSeen(t *testing.T) {
	f, file := newFixture(t, "one")
	f.write("two", f.now)
	changed := f.now
	f.now = f.now.Add(Interval)
	f.want(file, "two")
	f.write("six", changed)
	f.now = f.now.Add(Interval)
	f.want(file, "six")
}

func TestUnchangedIsNotParsed(t *testing.T) {
	f, file := newFixture(t, "one")
	for range 5 {
		f.now = f.now.Add(time.Minute)
		f.want(file, "one")
	}
	if f.parsed != 1 || f.reloads != 0 {
		t.Errorf("parsed %d times, %d reloads told of; want 1 and 0", f.parsed, f.reloads)
	}
}

func TestLastGoodStateStays(t *testing.T) {
	f, file := newFixture(t, "one")
	f.write("bad", f.now)
	for range 3 {
		f.now = f.now.Add(time.Minute)
		f.want(file, "one")
	}
	if len(f.errs) != 1 || !strings.Contains(f.errs[0].Error(), f.path+": line 1") {
		t.Fatalf("reported %q, want one error that names the file and the line", f.errs)
	}
	if err := os.Remove(f.path); err != nil {
		t.Fatal(err)
	}
	f.now = f.now.Add(time.Minute)
	f.want(file, "one")
	if len(f.errs) != 2 || !errors.Is(f.errs[1], fs.ErrNotExist) {
		t.Fatalf("reported %q, want the other error too", f.errs)
	}
	f.write("one", f.now.Add(-time.Hour))
	f.now = f.now.Add(time.Minute)
	f.want(file, "one")
	if f.reloads != 1 {
		t.Errorf("%d reloads told of, want one of the content that is good again", f.reloads)
	}
	f.write("bad", f.now.Add(-time.Hour))
	f.now = f.now.Add(time.Minute)
	f.want(file, "one")
	if len(f.errs) != 3 {
		t.Errorf("%d errors reported, want the same one again after it was mended", len(f.errs))
	}
	f.write("two", f.now.Add(-time.Hour))
	f.now = f.now.Add(time.Minute)
	f.want(file, "two")
}

// Secrets of Kubernetes are changed by turning a symbolic link.
func TestTurnedLinkIsSeen(t *testing.T) {
	f, _ := newFixture(t, "one")
	dir := filepath.Dir(f.path)
	old := f.now.Add(-time.Hour)
	f.write("one", old)
	link := filepath.Join(dir, "link")
	if err := os.Symlink("f", link); err != nil {
		t.Fatal(err)
	}
	file, err := Open(link, 64, parse(f), &Options{now: func() time.Time { return f.now }})
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "g")
	if err := errors.Join(os.WriteFile(other, []byte("two"), 0o600), os.Chtimes(other, old, old),
		os.Symlink("g", link+"2"), os.Rename(link+"2", link)); err != nil {
		t.Fatal(err)
	}
	f.now = f.now.Add(Interval)
	f.want(file, "two")
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"bad": "bad", "large": strings.Repeat("x", 65)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"bad", "large", "missing", "."} {
		path := filepath.Join(dir, name)
		if _, err := Open(path, 64, parse(&fixture{}), nil); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want an error that names the file", name, err)
		}
	}
}

func TestConcurrentReloads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	replace := func(content string) {
		if err := errors.Join(os.WriteFile(path+".new", []byte(content), 0o600), os.Rename(path+".new", path)); err != nil {
			t.Error(err)
		}
	}
	replace("000")
	file, err := Open(path, 64, func(_ string, data []byte) (string, error) { return string(data), nil }, nil)
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 200 {
				file.Refresh()
				if got := *file.Get(); len(got) != 3 {
					t.Errorf("got %q, which is no whole state", got)
				}
			}
		})
	}
	for i := range 200 {
		replace(fmt.Sprintf("%03d", i))
	}
	group.Wait()
	file.Refresh()
	if got := *file.Get(); got != "199" {
		t.Errorf("got %q after all changes, want 199", got)
	}
}
