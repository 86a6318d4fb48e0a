package main

import (
	"context"
	"errors"
	"strings"
	"time"
)

// bareConfig is berthConfig without all that watches and bounds requests.
const bareConfig = berthConfig + `log:
  accesslog: {disabled: true}
requests:
  read: {maxrunning: 0, maxinqueue: 0, maxwaitinqueue: 0}
  write: {maxrunning: 0, maxinqueue: 0, maxwaitinqueue: 0}
  maxuploads: 0
`

// A variant is a configuration in which some of that is on.
type variant struct {
	name   string
	config string
}

func variants() []variant {
	const (
		metrics = "metrics: {enabled: true, secret: a-long-random-secret}\n"
		off     = "  accesslog: {disabled: true}\n"
		on      = "  accesslog: {disabled: false}\n"
	)
	_, limits, _ := strings.Cut(bareConfig, "requests:\n")
	limited := strings.NewReplacer("requests:\n"+limits, "requests:\n  rate: {address: {persecond: 10000000}}\n")
	logged := strings.NewReplacer(off, on)
	return []variant{
		{"nothing", bareConfig},
		{"metrics", bareConfig + metrics},
		{"an access log", logged.Replace(bareConfig)},
		{"limits", limited.Replace(bareConfig)},
		{"all three", logged.Replace(limited.Replace(bareConfig)) + metrics},
	}
}

// observationCosts compares a manifest GET with metrics, access log and limits with one without, in turn.
func observationCosts(ctx context.Context, b *bench, t target) (figures []figure, err error) {
	const turns = 5
	op := operation{name: "manifest GET by tag", clients: 16, prepare: reading("GET", manifests(true))}
	all := variants()
	servers, loads := make([]*server, len(all)), make([]*load, len(all))
	for i, v := range all {
		t.config = v.config
		if servers[i], err = b.fresh(ctx, t); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, servers[i].discard()) }()
		if loads[i], err = op.prepare(servers[i]); err != nil {
			return nil, err
		}
	}
	results := make([][]result, len(all))
	for range b.rounds * turns {
		for i := range all {
			r, err := b.load(ctx, op, servers[i], loads[i])
			if err != nil {
				return nil, err
			}
			results[i] = append(results[i], r)
		}
	}
	for i := 1; i < len(all); i++ {
		figures = append(figures, figure{name: "manifest GET with " + all[i].name + ", its processor time in those with " + all[0].name,
			value: relative(results[i], results[0], func(r result) float64 { return float64(r.cpu) / float64(time.Microsecond) })})
	}
	last := len(figures) - 1
	figures[last].bar = 1.1
	return append(figures, figure{name: "the same in time", bar: 1.1,
		value: relative(results[last+1], results[0], func(r result) float64 { return 1 / r.rate })}), nil
}

// relative is the median of what results have in units of what others of the same round have.
func relative(results, others []result, of func(result) float64) float64 {
	list := make([]float64, len(results))
	for i := range results {
		list[i] = of(results[i]) / of(others[i])
	}
	return median(list)
}
