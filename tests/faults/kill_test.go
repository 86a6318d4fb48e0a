package faults

import (
	"fmt"
	"testing"
	"time"

	"berth/tests/harness"
	"berth/tests/storm"
)

// TestKilledAtCalls kills the server as it is about to make a system call, the n-th of a thread, for each kind of call
// that changes the store and for growing n, until a run of everything a client does gets through. ROUNDS bounds n.
func TestKilledAtCalls(t *testing.T) {
	for _, call := range []string{
		"openat", "write", "close", "fstat", "fsync", "renameat2", "renameat", "mkdirat", "unlinkat", "sync_file_range", "pread64", "getdents64",
	} {
		t.Run(call, func(t *testing.T) {
			kills := 0
			s := harness.Start(t, harness.Options{Root: newDisk(t, "ext4", 1<<30, "defaults").root()})
			defer s.Stop() // before the disk goes
			ledger := storm.NewLedger(storm.Options{})
			for n := 1; n <= harness.Rounds(t, 3); n++ {
				if !killAt(t, s, ledger, fmt.Sprintf("%s:signal=KILL:when=%d", call, n)) {
					break
				}
				kills++
			}
			if kills == 0 {
				t.Errorf("no thread ever called %s", call)
			}
			t.Logf("killed %d times", kills)
		})
	}
}

// killAt runs the script under an injection until the server is killed, and again without. It reports whether it was.
func killAt(t *testing.T, s *harness.Server, ledger *storm.Ledger, expression string) bool {
	t.Helper()
	i := inject(t, s, expression)
	s.Doom()
	finished, err := ledger.Script(s.Client)
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	limit := 10 * time.Second
	if finished {
		limit = 100 * time.Millisecond // a thread may be about to get there
	}
	killed := s.Fell(limit)
	if i.end(); !killed {
		if !finished {
			t.Fatalf("%s: the script did not get through, and the server lives", expression)
		}
		return false
	}
	cleanStart(t, s)
	if err := ledger.Check(s.Client); err != nil {
		t.Fatalf("%s: after the kill: %v", expression, err)
	}
	if finished, err := ledger.Script(s.Client); err != nil || !finished {
		t.Fatalf("%s: the same again, after the kill: finished %v, %v", expression, finished, err)
	}
	if err := ledger.Check(s.Client); err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return true
}
