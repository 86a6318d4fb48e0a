package faults

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"berth/tests/content"
	"berth/tests/harness"
	"berth/tests/storm"
)

// TestPowerCut cuts the power of a disk at random moments of a storm: what was not made durable is gone. ROUNDS sets how
// often.
func TestPowerCut(t *testing.T) {
	const perDisk = 5 // nothing collects garbage here: a new disk before the old one is full
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			harness.Need(t, "xfs_io")
			for rounds := harness.Rounds(t, 4); rounds > 0; rounds -= perDisk {
				t.Run("disk", func(t *testing.T) { cutPower(t, kind, min(rounds, perDisk)) })
			}
		})
	}
}

func cutPower(t *testing.T, kind string, rounds int) {
	disk := newDisk(t, kind, 3<<30, "defaults")
	s := harness.Start(t, harness.Options{Root: disk.root()})
	ledger := storm.NewLedger(storm.Options{Seed: harness.Seed(t)})
	for round := range rounds {
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- ledger.Run(ctx, 8, s.Client) }()
		time.Sleep(50*time.Millisecond + rand.N(1500*time.Millisecond))
		run(t, "xfs_io", "-x", "-c", "shutdown", disk.dir)
		s.Kill()
		stop()
		if err := <-done; err != nil {
			t.Errorf("round %d: during the storm: %v", round, err)
		}
		disk.unmount()
		disk.mount()
		cleanStart(t, s)
		if err := ledger.Check(s.Client); err != nil {
			t.Fatalf("round %d: after the power cut: %v", round, err)
		}
		if err := s.Push("after/cut", content.Algorithm(content.Digest).Image(t.Name(), content.AMD64(), []int{100}, nil), "v"); err != nil {
			t.Fatalf("round %d: a push after the power cut: %v", round, err)
		}
	}
	t.Logf("%d power cuts, %d writes acknowledged", rounds, ledger.Acked())
	s.Stop() // before the disk goes
}
