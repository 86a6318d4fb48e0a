package throttle

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
)

// TestTurns has somebody come with one after an address came with many: that one waits for one of them.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := NewTurns(1)
		turns.Take("A")
		var had []string
		for i, address := range []string{"A", "A", "A", "B", "C", "B"} {
			go func() {
				turns.Take(address)
				had = append(had, fmt.Sprint(address, i))
				turns.End()
			}()
			synctest.Wait()
		}
		turns.End()
		synctest.Wait()
		if want := []string{"A0", "B3", "C4", "A1", "B5", "A2"}; !slices.Equal(had, want) {
			t.Errorf("the turns were %v, want %v", had, want)
		}
		if turns.free != 1 || len(turns.waiting) != 0 || len(turns.order) != 0 {
			t.Errorf("left are %+v", turns)
		}
	})
}
