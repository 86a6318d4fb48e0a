package filesystem

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"berth/storage"
)

// A disk is a system that keeps a log of what happened to the tree, and of what was made durable, so that a test can ask
// what a power cut at any moment could have left.
type disk struct {
	realSystem
	mu      sync.Mutex
	top     *inode
	synced  map[string]bool // temporary files whose content is durable
	written map[string]bool // those whose content is durable when a later change is, if the disk keeps an order
	log     []event
	temp    string
	objects string
}

type inode struct {
	content string // of a file
	torn    bool   // the content was not durable when the file got its name
	late    bool   // and not written out either
	entries map[string]*inode
}

// An event is a change of one entry of a folder, a sync, or a note of the test about what it does.
type event struct {
	dir  *inode // the folder that was changed or synced; nil for a sync of all and for a note
	name string
	now  *inode // what the entry names from now on, nil for nothing
	sync bool

	key   string // of a note
	body  string
	acked bool // else it begins
}

func newDisk() *disk {
	return &disk{top: &inode{entries: map[string]*inode{}}, synced: map[string]bool{}, written: map[string]bool{}}
}

// attach tells a disk about its driver. What happened before does not count.
func (k *disk) attach(d *Driver) { k.temp, k.objects, k.log = d.temp, d.objects, nil }

func (k *disk) lookup(path string) *inode {
	rel, err := filepath.Rel(k.objects, path)
	if err != nil || strings.HasPrefix(rel, "..") {
		return nil
	}
	in := k.top
	for _, part := range strings.Split(rel, "/") {
		if in != nil && part != "." {
			in = in.entries[part]
		}
	}
	return in
}

// change logs a change of the entry at path, which has taken place.
func (k *disk) change(path string, now *inode) {
	dir, name := k.lookup(filepath.Dir(path)), filepath.Base(path)
	if dir == nil {
		return // not among the objects
	}
	delete(dir.entries, name)
	if now != nil {
		dir.entries[name] = now
	}
	k.log = append(k.log, event{dir: dir, name: name, now: now})
}

func (k *disk) move(from, to string, rename func(from, to string) error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	content, err := os.ReadFile(from)
	if err == nil {
		err = rename(from, to)
	}
	if err == nil {
		k.change(to, &inode{content: string(content), torn: !k.synced[from], late: !k.written[from]})
	}
	return err
}

func (k *disk) rename(from, to string) error    { return k.move(from, to, k.realSystem.rename) }
func (k *disk) renameNew(from, to string) error { return k.move(from, to, k.realSystem.renameNew) }

func (k *disk) mkdir(path string, mode fs.FileMode) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.realSystem.mkdir(path, mode)
	if err == nil {
		k.change(path, &inode{entries: map[string]*inode{}})
	}
	return err
}

func (k *disk) unlink(path string) error { return k.drop(path, k.realSystem.unlink) }
func (k *disk) rmdir(path string) error  { return k.drop(path, k.realSystem.rmdir) }

func (k *disk) drop(path string, remove func(string) error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := remove(path)
	if err == nil {
		k.change(path, nil)
	}
	return err
}

func (k *disk) writeOut(files []*os.File) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, f := range files {
		k.written[f.Name()] = true
	}
	return nil
}

func (k *disk) syncFile(f *os.File) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.synced[f.Name()] = true
	return nil
}

func (k *disk) syncDir(path string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, err := os.Stat(path); err != nil {
		return err
	}
	if dir := k.lookup(path); dir != nil {
		k.log = append(k.log, event{dir: dir, sync: true})
	}
	return nil
}

func (k *disk) syncAll(*os.File) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.temp == "" {
		return nil // the driver is not there yet
	}
	entries, err := os.ReadDir(k.temp)
	for _, e := range entries {
		k.synced[filepath.Join(k.temp, e.Name())] = true
	}
	k.log = append(k.log, event{sync: true})
	return err
}

func (k *disk) note(key, body string, acked bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.log = append(k.log, event{key: key, body: body, acked: acked})
}

// cut returns what a power cut after the first n events may leave: each change that was not synced is lost or not by
// chance or, on a file system that keeps their order, all after one of them.
func (k *disk) cut(n int, orders bool) map[string]*inode {
	durable := make([]bool, n)
	last := 0 // how many events, in order, are durable
	for i, e := range k.log[:n] {
		for j := range i {
			if e.sync && k.log[j].name != "" && (e.dir == nil || e.dir == k.log[j].dir) {
				durable[j] = true
				last = max(last, j+1)
			}
		}
	}
	kept := last + rand.IntN(n-last+1)
	entries := make(map[*inode]map[string]*inode)
	for i, e := range k.log[:n] {
		if e.name == "" || orders && i >= kept || !orders && !durable[i] && rand.IntN(2) == 0 {
			continue
		}
		if entries[e.dir] == nil {
			entries[e.dir] = make(map[string]*inode)
		}
		entries[e.dir][e.name] = e.now
	}
	found := make(map[string]*inode)
	var walk func(prefix string, in *inode)
	walk = func(prefix string, in *inode) {
		for name, child := range entries[in] {
			switch {
			case child == nil:
			case child.entries != nil:
				walk(prefix+name+"/", child)
			default:
				found[prefix+name] = child
			}
		}
	}
	walk("", k.top)
	return found
}

// check cuts the power after every event, several times, and compares what is left with what was promised by then.
func (k *disk) check(t *testing.T, orders bool) {
	for n := 0; n <= len(k.log); n++ {
		for range 4 {
			found := k.cut(n, orders)
			for key, in := range found {
				if in.torn && (in.late || !orders) {
					t.Fatalf("after %d events, %s may survive without its content", n, key)
				}
			}
			for key, allowed := range k.promised(n) {
				got := "" // nothing
				if in := found[key]; in != nil {
					got = in.content
				}
				if !slices.Contains(allowed, got) {
					t.Fatalf("after %d events, %s may have %q, want one of %q", n, key, got, allowed)
				}
			}
			for key := range found {
				if group, ok := strings.CutSuffix(key, "second"); ok && found[group+"first"] == nil {
					t.Fatalf("after %d events, %s may survive without the one before it", n, key)
				}
			}
		}
	}
}

// promised returns what each key may have after n events: what was acknowledged last or begun since then.
func (k *disk) promised(n int) map[string][]string {
	allowed := make(map[string][]string)
	for _, e := range k.log[:n] {
		switch {
		case e.key == "":
		case e.acked:
			allowed[e.key] = []string{e.body}
		case allowed[e.key] == nil:
			allowed[e.key] = []string{"", e.body}
		default:
			allowed[e.key] = append(allowed[e.key], e.body)
		}
	}
	return allowed
}

// TestPowerCut lets several writers put, replace and delete in folders that come and go, and then cuts the power at each
// moment of that history, on three kinds of file system.
func TestPowerCut(t *testing.T) {
	for name, tr := range map[string]traits{
		"ordered, synced as a whole": {orders: true, syncsWhole: true},
		"ordered":                    {orders: true},
		"unknown":                    {},
	} {
		t.Run(name, func(t *testing.T) {
			for _, writers := range []int{1, 4} {
				k := newDisk()
				d := start(t, Options{}, kindFilesystem, k)
				k.attach(d)
				d.traits, d.syncer.traits = tr, tr
				var wg sync.WaitGroup
				for w := range writers {
					wg.Go(func() {
						if err := churn(t.Context(), d, k, w, 24/writers); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				k.check(t, tr.orders)
				if len(k.log) < 100 {
					t.Errorf("only %d events were seen", len(k.log))
				}
			}
		})
	}
}

// churn changes keys of one writer, in folders that all writers use, and notes what it begins and what is acknowledged.
func churn(ctx context.Context, d *Driver, k *disk, w, rounds int) error {
	for i := range rounds {
		body := fmt.Sprintf("%d.%d", w, i)
		single := fmt.Sprintf("a/b/c%d/%d", i%2, w)
		k.note(single, body, false)
		if _, err := d.Put(ctx, single, strings.NewReader(body), -1, storage.Cond{}); err != nil {
			return err
		}
		k.note(single, body, true)

		group := fmt.Sprintf("g/%d/%d", i%3, w*rounds+i)
		objects := []storage.Object{
			{Key: group + "/x/first", Body: []byte(body), Cond: storage.Absent()},
			{Key: group + "/x/second", Body: []byte(body), Cond: storage.Absent()},
			{Key: group + "/third", Body: []byte(body)},
		}
		for _, o := range objects {
			k.note(o.Key, body, false)
		}
		if _, err := d.PutAll(ctx, objects); err != nil {
			return err
		}
		for _, o := range objects {
			k.note(o.Key, body, true)
		}
		if i%3 != 0 {
			k.note(single, "", false)
			if err := d.Delete(ctx, single, storage.Cond{}); err != nil {
				return err
			}
			k.note(single, "", true)
		}
	}
	return nil
}

// TestDiskNotices checks that the model of a disk is worth something: without syncs, or with contents that are not synced,
// it must find what may be lost.
func TestDiskNotices(t *testing.T) {
	k := newDisk()
	d := start(t, Options{NoSync: true}, kindFilesystem, k)
	k.attach(d)
	k.note("a/b", "x", false)
	put(t, d, "a/b", "x", storage.Cond{})
	k.note("a/b", "x", true)
	lost, torn := false, false
	for range 100 {
		found := k.cut(len(k.log), false)
		lost = lost || len(found) == 0
		for in := range maps.Values(found) {
			torn = torn || in.torn
		}
	}
	if !lost || !torn {
		t.Errorf("an object that was never synced is seen lost: %v, torn: %v", lost, torn)
	}
}
