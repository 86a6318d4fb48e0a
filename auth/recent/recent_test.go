package recent

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestMapIsBounded(t *testing.T) {
	m := Map[int, int]{Bound: 10}
	for i := range 1000 {
		m.Put(i, i)
		if m.Len() > 20 {
			t.Fatalf("%d entries", m.Len())
		}
		for j := max(0, i-9); j <= i; j++ {
			if v, ok := m.Get(j); !ok || v != j {
				t.Fatalf("%d is forgotten after %d", j, i)
			}
		}
	}
	m.Put(999, 1)
	m.Put(995, 1)
	for _, k := range []int{999, 995, 5000} {
		if m.Remove(k); true {
			if _, ok := m.Get(k); ok {
				t.Errorf("%d is there after it was removed", k)
			}
		}
	}
}

func request(header ...string) *http.Request {
	return &http.Request{Header: http.Header{"Authorization": header}}
}

func TestCredentials(t *testing.T) {
	c := NewCredentials[string](3)
	right, _ := c.Prove(request("Basic x"))
	c.Put(right, "x")
	if p, ok := c.Prove(request("Basic x")); !ok || p != right {
		t.Error("the same header has another proof")
	}
	if v, ok := c.Get(right); !ok || v != "x" {
		t.Errorf("got %q, %t", v, ok)
	}
	for _, r := range []*http.Request{{}, request(), request("Basic x", "Basic x"), request("Basic " + strings.Repeat("x", maxHeader))} {
		if _, ok := c.Prove(r); ok {
			t.Errorf("%.40q has a proof", r.Header)
		}
	}
	for _, other := range []string{"", "Basic x ", "basic x", "Basic xx", "Basic ", "Basic " + strings.Repeat("x", 4000)} {
		p, ok := c.Prove(request(other))
		if _, known := c.Get(p); !ok || known {
			t.Errorf("%.40q: proven is %t, known is %t", other, ok, known)
		}
	}
	if p, _ := NewCredentials[string](3).Prove(request("Basic x")); p == right {
		t.Error("another memory has the same proofs")
	}
	for i := range 7 {
		p, _ := c.Prove(request(fmt.Sprint(i)))
		c.Put(p, "")
	}
	if _, ok := c.Get(right); ok || c.known.Len() > 6 {
		t.Errorf("%d are remembered, the first is: %t", c.known.Len(), ok)
	}
}

// TestProvingLeavesNothing: what was proven is in no buffer that is kept, and takes no memory.
func TestProvingLeavesNothing(t *testing.T) {
	c := NewCredentials[int](1)
	r := request("Basic secret")
	if n := testing.AllocsPerRun(100, func() { c.Prove(r) }); n >= 1 {
		t.Errorf("it allocates %v times", n)
	}
	b, _ := c.buffers.Get().(*[]byte)
	if kept := string((*b)[:cap(*b)][len(c.key):]); strings.Trim(kept, "\x00") != "" {
		t.Errorf("%q was kept", kept)
	}
}

func BenchmarkProve(b *testing.B) {
	c := NewCredentials[int](1)
	for name, size := range map[string]int{"password": 40, "token": 1000} {
		r := request(strings.Repeat("x", size))
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p, _ := c.Prove(r)
				c.Get(p)
			}
		})
	}
}
