package cached

import (
	"container/list"
	"context"
	"iter"
	"slices"
	"strings"
	"sync"

	"berth/storage"
)

// largestFolder is the size, in bytes, up to which the keys under a folder are kept.
const largestFolder = 4 << 20

// Keys serves the keys under a folder, a prefix that ends in a slash, from memory if possible.
func (d *Driver) Keys(ctx context.Context, prefix, after string) iter.Seq2[string, error] {
	if !strings.HasSuffix(prefix, "/") {
		return storage.Keys(ctx, d.next, prefix, after)
	}
	return func(yield func(string, error) bool) {
		keys, ok, err := d.folder(ctx, prefix)
		if err != nil {
			yield("", err)
			return
		}
		if !ok {
			storage.Keys(ctx, d.next, prefix, after)(yield)
			return
		}
		start, found := slices.BinarySearch(keys, after)
		if found {
			start++
		}
		for _, key := range keys[start:] {
			if !yield(key, nil) {
				return
			}
		}
	}
}

// folder returns all keys under a folder; ok is false when they are too many to be kept.
func (d *Driver) folder(ctx context.Context, prefix string) (keys []string, ok bool, err error) {
	keys, ok = d.names.get(prefix)
	d.report(prefix, ok)
	if ok {
		return keys, true, nil
	}
	keep := d.names.load(prefix)
	cost := int64(0)
	for key, err := range storage.Keys(ctx, d.next, prefix, "") {
		if err != nil || cost > largestFolder {
			keep(nil, 0)
			return nil, false, err
		}
		keys = append(keys, key)
		cost += int64(len(key)) + 16
	}
	keep(keys, cost+overhead)
	return keys, true, nil
}

// names are the keys under folders that were listed, for as long as none comes or goes.
type names struct {
	mu       sync.Mutex
	size     int64 // bytes allowed, and of them not taken
	room     int64
	folders  map[string]*list.Element // of *folder
	recent   list.List                // most recently used first
	changing map[string]int           // changes under way under a folder
	loads    map[string]*folderLoad
}

type folder struct {
	prefix string
	keys   []string // in order; never changed
	cost   int64
}

// A folderLoad is the listing of one folder, by one reader or several at once.
type folderLoad struct {
	readers int
	stale   bool // something changed meanwhile
}

func newNames(room int64) names {
	return names{size: room, room: room, folders: map[string]*list.Element{}, changing: map[string]int{}, loads: map[string]*folderLoad{}}
}

func (n *names) get(prefix string) ([]string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	element, ok := n.folders[prefix]
	if !ok {
		return nil, false
	}
	n.recent.MoveToFront(element)
	return element.Value.(*folder).keys, true
}

// load begins to list a folder. The caller calls keep with what it found; a cost of 0 keeps nothing.
func (n *names) load(prefix string) (keep func(keys []string, cost int64)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.loads[prefix]
	if l == nil {
		l = &folderLoad{stale: n.changing[prefix] > 0}
		n.loads[prefix] = l
	}
	l.readers++
	return func(keys []string, cost int64) {
		n.mu.Lock()
		defer n.mu.Unlock()
		if l.readers--; l.readers == 0 {
			delete(n.loads, prefix)
		}
		if n.forget(prefix); l.stale || cost == 0 || cost > n.size {
			return
		}
		n.room -= cost
		n.folders[prefix] = n.recent.PushFront(&folder{prefix, keys, cost})
		for n.room < 0 {
			n.forget(n.recent.Back().Value.(*folder).prefix)
		}
	}
}

func (n *names) forget(prefix string) {
	if element, ok := n.folders[prefix]; ok {
		n.room += element.Value.(*folder).cost
		n.recent.Remove(element)
		delete(n.folders, prefix)
	}
}

// change notes that a key may come or go, until end is called. A put that replaces an object changes no folder.
func (n *names) change(key string, cond storage.Cond) (end func()) {
	if _, replaces := cond.Rev(); replaces {
		return func() {}
	}
	n.mark(key, 1)
	return func() { n.mark(key, -1) }
}

func (n *names) mark(key string, by int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range len(key) {
		if key[i] != '/' {
			continue
		}
		prefix := key[:i+1]
		n.forget(prefix)
		if l := n.loads[prefix]; l != nil {
			l.stale = true
		}
		if n.changing[prefix] += by; n.changing[prefix] == 0 {
			delete(n.changing, prefix)
		}
	}
}
