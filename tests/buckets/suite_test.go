package buckets

import (
	"strings"
	"testing"

	"berth/storage"
	"berth/storage/storagetest"
)

func TestSuite(t *testing.T) {
	each(t, services(), func(t *testing.T, s service, open opener) {
		test := storagetest.Test
		if s.unsettled {
			test = storagetest.TestOpen
		}
		test(t, func(t *testing.T) storage.Driver { return open(t, nil) })
	})
}

// TestPartsHaveRevs writes objects in parts of which one byte differs, in any of them.
func TestPartsHaveRevs(t *testing.T) {
	each(t, services(), func(t *testing.T, _ service, open opener) {
		d := open(t, nil)
		revs := map[storage.Rev]int{}
		for i := range 3 {
			body := []byte(strings.Repeat("x", 11<<20))
			body[i*5<<20] = 'y'
			info, err := d.Put(t.Context(), "data/parts", strings.NewReader(string(body)), int64(len(body)), storage.Cond{})
			must(t, err)
			if other, ok := revs[info.Rev]; ok {
				t.Errorf("the contents %d and %d share the Rev %s", other, i, info.Rev)
			}
			revs[info.Rev] = i
		}
	})
}
