package process

import (
	"fmt"
	"sync/atomic"
	"time"

	"berth/configuration"
	"berth/metrics"
	"berth/registry/gate"
	"berth/registry/server/connection"
)

// limits are how much is served at a time, as configured last. They are safe for concurrent use.
type limits struct {
	gate        *gate.Gate
	connections *connection.Set
	maxBlob     atomic.Int64
	minFree     atomic.Uint64
}

// newLimits shows the limits in metrics, which may be nil.
func newLimits(c *configuration.Config, m *metrics.Metrics) *limits {
	l := &limits{connections: connection.NewSet(0)}
	o := &gate.Options{}
	if m != nil {
		waited := m.WatchQueues(names(gate.Classes()), names(gate.Reasons()), func() metrics.Queues { return queues(l.gate.Stats()) })
		m.WatchConnections(func() int { open, _, _ := l.connections.Counts(); return open })
		o.OnWait = func(c gate.Class, took time.Duration, _ bool) { waited(int(c), took) }
	}
	l.gate = gate.New(gate.Limits{}, o)
	l.apply(c)
	return l
}

// apply puts the limits of a configuration in force. Nothing that is under way is cut.
func (l *limits) apply(c *configuration.Config) {
	l.gate.SetLimits(gateLimits(c.Requests))
	l.connections.SetMax(c.HTTP.MaxConnections)
	l.maxBlob.Store(int64(c.Requests.MaxBlobSize))
	l.minFree.Store(uint64(c.Health.MinFreeSpace))
}

func gateLimits(c configuration.Requests) gate.Limits {
	blobs := c.Read
	if c.Blobs != nil {
		blobs = *c.Blobs
	}
	l := gate.Limits{
		PerAddress: gate.Rate(c.Rate.Address), PerUser: gate.Rate(c.Rate.User), Uploads: c.MaxUploads,
	}
	for class, q := range map[gate.Class]configuration.Queue{gate.Read: c.Read, gate.Write: c.Write, gate.Blobs: blobs} {
		l.Queues[class] = gate.Queue{MaxRunning: q.MaxRunning, MaxInQueue: q.MaxInQueue, MaxWait: q.MaxWaitInQueue}
	}
	return l
}

func names[T fmt.Stringer](all []T) (list []string) {
	for _, one := range all {
		list = append(list, one.String())
	}
	return list
}

func queues(s gate.Stats) metrics.Queues {
	q := metrics.Queues{Rejected: s.Rejected[:]}
	for _, c := range s.Classes {
		q.Running = append(q.Running, c.Running)
		q.Waiting = append(q.Waiting, c.Queued)
		q.Admitted = append(q.Admitted, c.Admitted)
	}
	return q
}
