// Package crash storms the built registry: it is killed at any moment, its connections are cut, and many clients want the
// same thing at once. What was acknowledged must be there, and no answer may contradict another.
package crash

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"berth/tests/harness"
)

var (
	storm = flag.Duration("storm", 10*time.Second, "how long the storm of kills lasts")
	seed  = flag.Uint64("seed", 0, "of the storm; 0 takes another one each time")
)

const workers = 6

// TestKill kills the server with SIGKILL at random moments while clients push, upload in chunks, move tags and delete.
// After each restart, every acknowledged push must be served and have its digests.
func TestKill(t *testing.T) {
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed %d -storm %v", *seed, *storm)
	random := rand.New(rand.NewPCG(*seed, 0))
	s := harness.Start(t, harness.Options{Race: true})
	crew := make([]*worker, workers)
	for i := range crew {
		crew[i] = newWorker(s.Client, fmt.Sprintf("storm/worker-%d", i), rand.New(rand.NewPCG(*seed, uint64(i+1))))
	}
	rounds, done := 0, 0
	for end := time.Now().Add(*storm); time.Now().Before(end) && !t.Failed(); rounds++ {
		killed := make(chan struct{})
		var running sync.WaitGroup
		for _, w := range crew {
			running.Go(func() { w.work(killed) })
		}
		time.Sleep(time.Duration(50+random.IntN(600)) * time.Millisecond)
		s.Kill()
		close(killed)
		running.Wait()
		s.Restart()
		for _, w := range crew {
			if err := w.verify(rounds%10 == 9); err != nil {
				t.Errorf("round %d: %s: %v", rounds, w.repo, err)
			}
		}
	}
	for _, w := range crew {
		if err := w.verify(true); err != nil {
			t.Errorf("at the end: %s: %v", w.repo, err)
		}
		done += w.acknowledged
	}
	if t.Logf("%d kills, %d operations acknowledged", rounds, done); done == 0 || rounds == 0 {
		t.Error("the storm was none")
	}
}
