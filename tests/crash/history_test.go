package crash

import (
	"sync"
	"testing"
	"time"

	"berth/tests/content"
	"berth/tests/harness"
	"berth/tests/storm"
)

// TestTagHistory lets 32 writers move one tag while readers follow it: what they saw must fit into one order.
func TestTagHistory(t *testing.T) {
	const writers, readers, moves = 32, 16, 5
	s := harness.Start(t, harness.Options{Race: true})
	all := manifests(t, s, "crowd/history", 1+writers*moves)
	if err := s.PushManifest("crowd/history", "latest", all[0]); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	begin := time.Now()
	events := []storm.Event{{Write: true, Value: all[0].Digest}}
	record := func(write bool, act func() (string, error)) error {
		start := time.Since(begin)
		value, err := act()
		end := time.Since(begin)
		mu.Lock()
		defer mu.Unlock()
		events = append(events, storm.Event{Write: write, Value: value, Begun: int64(start), End: int64(end)})
		return err
	}
	crowd(t, writers+readers, func(i int) error {
		for n := range moves {
			var err error
			if i < writers {
				err = record(true, func() (string, error) { return move(s, all[1+i*moves+n]) })
			} else {
				err = record(false, func() (string, error) { return s.Resolve("crowd/history", "latest") })
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err := record(false, func() (string, error) { return s.Resolve("crowd/history", "latest") }); err != nil {
		t.Fatal(err)
	}
	if why := storm.Contradiction(events); why != "" {
		t.Errorf("the history of %d operations is not linearizable: %s", len(events), why)
	}
}

func move(s *harness.Server, m content.Manifest) (string, error) {
	return m.Digest, s.PushManifest("crowd/history", "latest", m)
}
