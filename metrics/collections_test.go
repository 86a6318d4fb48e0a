package metrics

import (
	"testing"
	"time"
)

func TestCollections(t *testing.T) {
	now := time.Unix(1000, 0)
	m := New(Options{Now: func() time.Time { return now }})
	running := false
	m.WatchCollector(func() bool { return running })
	if got := sample(t, m, "berth_gc_running").GetGauge().GetValue(); got != 0 {
		t.Errorf("%v runs are under way before any began", got)
	}
	running = true
	if got := sample(t, m, "berth_gc_running").GetGauge().GetValue(); got != 1 {
		t.Errorf("%v runs are under way", got)
	}
	m.CollectionEnded(Collection{Result: Stopped, Layers: []CollectedLayer{{Name: "links", Removed: 1, Failed: 2}}})
	if got := sample(t, m, "berth_gc_last_success_timestamp_seconds").GetGauge().GetValue(); got != 0 {
		t.Errorf("a run that was stopped counts as one that came to its end, at %v", got)
	}
	m.CollectionEnded(Collection{Result: Collected, Layers: []CollectedLayer{
		{Name: "links", Removed: 2, Seconds: .5}, {Name: "data", Removed: 3, Bytes: 4000}, {Name: "unheard of", Removed: 1},
	}})
	for _, want := range []struct {
		name, label string
		value       float64
	}{
		{"berth_gc_removed_total", "layer=links", 3}, {"berth_gc_removed_bytes_total", "layer=data", 4000}, {"berth_gc_failures_total", "layer=links", 2},
		{"berth_gc_runs_total", "result=success", 1}, {"berth_gc_runs_total", "result=stopped", 1}, {"berth_gc_runs_total", "result=incomplete", 0},
	} {
		if got := sample(t, m, want.name, want.label).GetCounter().GetValue(); got != want.value {
			t.Errorf("%s of %s is %v, want %v", want.name, want.label, got, want.value)
		}
	}
	if got := sample(t, m, "berth_gc_last_success_timestamp_seconds").GetGauge().GetValue(); got != 1000 {
		t.Errorf("it last collected at %v", got)
	}
}
