package replicas

import (
	"context"
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"berth/tests/harness"
	"berth/tests/storm"
)

var length = flag.Duration("storm", 8*time.Second, "how long a storm over replicas of each store lasts")

// seen is how long it may take until every replica has seen a deletion that was acknowledged by one of them.
const seen = 5 * time.Second

// three starts three registries on one store.
func three(t *testing.T, s store) (servers []*harness.Server, clients []*harness.Client) {
	t.Helper()
	o := s.Start(t, harness.Direct)
	for range 3 {
		server := harness.Start(t, o)
		servers, clients = append(servers, server), append(clients, server.Client)
	}
	return servers, clients
}

// TestStorm lets clients push, pull, move tags and delete through replicas that take their requests in turn, while one after
// another is killed and started again. After each round every acknowledged push is served by every replica and has its
// digest, and what clients saw of the tags fits into one order.
func TestStorm(t *testing.T) {
	for _, s := range stores() {
		t.Run(s.Name, func(t *testing.T) {
			seed := harness.Seed(t)
			random := rand.New(rand.NewPCG(seed, 0))
			servers, clients := three(t, s)
			ledger := storm.NewLedger(storm.Options{Seed: seed})
			kills := 0
			for end := time.Now().Add(*length); time.Now().Before(end) && !t.Failed(); {
				kills += round(t, ledger, servers, clients, random)
				time.Sleep(seen) // so long may a manifest that was deleted still be served by another replica
				if err := ledger.Check(clients...); err != nil {
					t.Errorf("after the storm: %v", err)
				}
			}
			t.Logf("%d kills, %d operations acknowledged, %d uploads closed by another replica than the one first asked",
				kills, ledger.Acked(), ledger.Retried())
			if ledger.Acked() == 0 || kills == 0 {
				t.Error("the storm was none")
			}
		})
	}
}

// round is one storm. It returns how often a replica was killed.
func round(t *testing.T, ledger *storm.Ledger, servers []*harness.Server, clients []*harness.Client, random *rand.Rand) (kills int) {
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Second)
	defer stop()
	stormy := make(chan error, 1)
	go func() { stormy <- ledger.Run(ctx, 6, clients...) }()
	for ; ctx.Err() == nil; kills++ {
		time.Sleep(time.Duration(100+random.IntN(700)) * time.Millisecond)
		victim := servers[random.IntN(len(servers))]
		victim.Kill()
		victim.Restart()
	}
	if err := <-stormy; err != nil {
		t.Errorf("during the storm: %v", err)
	}
	return kills
}
