package gc

import (
	"math/rand/v2"
	"testing"
)

// TestMarks wants no mark to be forgotten, few to be made up, and another few by the next set.
func TestMarks(t *testing.T) {
	const n = 300_000
	random := rand.New(rand.NewPCG(1, 2))
	m, other := newMarks(), newMarks()
	var added []uint64
	for range n {
		h := random.Uint64()
		added = append(added, h)
		m.add(h)
		other.add(h)
	}
	for _, h := range added {
		if !m.has(h) {
			t.Fatalf("%x was forgotten", h)
		}
	}
	wrong, both := 0, 0
	for range n {
		h := random.Uint64()
		if m.has(h) {
			wrong++
			if other.has(h) {
				both++
			}
		}
	}
	if wrong > n/1000 || both > wrong/10+3 {
		t.Errorf("%d of %d are made up, %d of them twice", wrong, n, both)
	}
	size := 0
	for _, f := range m.filters {
		size += len(f.words) * 8
	}
	if size > n*40 {
		t.Errorf("%d marks take %d bytes", n, size)
	}
}

func TestMemo(t *testing.T) {
	m := newMemo(10_000)
	for i := range 1000 {
		m.put(m.key("record", int64(i)), []uint64{uint64(i), 7})
	}
	known := 0
	for i := range 1000 {
		got, ok := m.get(m.key("record", int64(i)))
		if ok {
			known++
		}
		if ok && (len(got) != 2 || got[0] != uint64(i)) {
			t.Errorf("record %d refers to %v", i, got)
		}
	}
	if known == 0 || known > 200 {
		t.Errorf("within 10,000 bytes %d records are remembered", known)
	}
	if _, ok := m.get(m.key("recor", 'd', 0)); ok {
		t.Error("another key is taken for one that is known")
	}
}

// TestMemoForgets wants records that are gone to give their room back.
func TestMemoForgets(t *testing.T) {
	m := newMemo(1 << 30)
	for i := range 3000 {
		m.put(m.key("", int64(i)), nil)
	}
	for range 2 {
		m.begin()
		for i := range 1000 {
			m.get(m.key("", int64(i)))
		}
	}
	if m.begin(); len(m.index) != 0 {
		t.Errorf("%d are remembered, of which a third is asked for", len(m.index))
	}
}
