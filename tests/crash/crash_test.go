// Package crash storms the built registry: it is killed at any moment, its connections are cut, and many clients want the
// same thing at once. What was acknowledged must be there, and no answer may contradict another.
package crash

import (
	"context"
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"berth/tests/harness"
	"berth/tests/storm"
)

var length = flag.Duration("storm", 10*time.Second, "how long the storm of kills lasts")

// TestKill kills the server with SIGKILL at random moments of a storm. After each restart, every acknowledged push must be
// served and have its digests, and what clients saw of the tags must fit into one order.
func TestKill(t *testing.T) {
	seed := harness.Seed(t)
	random := rand.New(rand.NewPCG(seed, 0))
	s := harness.Start(t, harness.Options{Race: true})
	ledger := storm.NewLedger(storm.Options{Seed: seed})
	rounds := 0
	for end := time.Now().Add(*length); time.Now().Before(end) && !t.Failed(); rounds++ {
		stormy := make(chan error, 1)
		go func() { stormy <- ledger.Run(context.Background(), 6, s.Client) }() // until the server is gone
		time.Sleep(time.Duration(50+random.IntN(600)) * time.Millisecond)
		s.Kill()
		if err := <-stormy; err != nil {
			t.Errorf("round %d: during the storm: %v", rounds, err)
		}
		s.Restart()
		if err := ledger.Check(s.Client); err != nil {
			t.Errorf("round %d: after the kill: %v", rounds, err)
		}
	}
	if t.Logf("%d kills, %d operations acknowledged", rounds, ledger.Acked()); ledger.Acked() == 0 || rounds == 0 {
		t.Error("the storm was none")
	}
}

// TestStorm lets clients do whatever they like without any fault, until everything that they did must be known for sure.
func TestStorm(t *testing.T) {
	s := harness.Start(t, harness.Options{Race: true})
	ledger := storm.NewLedger(storm.Options{Seed: harness.Seed(t)})
	for range 3 {
		ctx, stop := context.WithTimeout(context.Background(), 2*time.Second)
		defer stop()
		if err := ledger.Run(ctx, 8, s.Client, harness.NewClient(s.Base)); err != nil {
			t.Fatal(err)
		}
		if err := ledger.Check(s.Client, harness.NewClient(s.Base)); err != nil {
			t.Fatal(err)
		}
	}
}
