package main

import (
	"sync/atomic"

	"berth/configuration"
	"berth/registry/gate"
	"berth/registry/server"
)

// limits are how much is served at a time, as configured last. They are safe for concurrent use.
type limits struct {
	gate        *gate.Gate
	connections *server.Connections
	maxBlob     atomic.Int64
}

func newLimits(c *configuration.Config) *limits {
	l := &limits{gate: gate.New(gate.Limits{}, nil), connections: server.NewConnections(0)}
	l.apply(c)
	return l
}

// apply puts the limits of a configuration in force. Nothing that is under way is cut.
func (l *limits) apply(c *configuration.Config) {
	l.gate.SetLimits(gateLimits(c.Requests))
	l.connections.SetMax(c.HTTP.MaxConnections)
	l.maxBlob.Store(int64(c.Requests.MaxBlobSize))
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
