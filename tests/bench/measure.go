package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"berth/tests/bench/wire"
)

// A measurement is rows that are no rates: how costs grow, memory, and starting.
type measurement struct {
	name    string
	targets []string
	slow    bool // only made when asked for
	measure func(ctx context.Context, b *bench, t target) ([]figure, error)
}

// onFresh is a measurement of a server over an empty store.
func onFresh(measure func(*server) ([]figure, error)) func(context.Context, *bench, target) ([]figure, error) {
	return func(ctx context.Context, b *bench, t target) (figures []figure, err error) {
		err = b.withFresh(ctx, t, func(s *server) error { figures, err = measure(s); return err })
		return figures, err
	}
}

// A figure is one number of a measurement.
type figure struct {
	name  string
	value float64
	unit  string
	bar   float64 // the most it should be; 0 means no bar
}

// timed returns how long f takes, in milliseconds.
func timed(f func() error) (float64, error) {
	began := time.Now()
	err := f()
	return time.Since(began).Seconds() * 1000, err
}

// tagCosts compares the first tags of a repository with those after the 5,000th, and pushes to the deletion of manifests
// there. What is compared takes turns, so that the disk is in the same mood for both.
func tagCosts(s *server) ([]figure, error) {
	const pushes, deletes, warm = 100, 30, 5
	pushed, err := seedManifests(s, "bench/many", manyTags, 8)
	if err != nil {
		return nil, err
	}
	few, many := &tagPusher{repository: "bench/few"}, &tagPusher{repository: "bench/many"}
	var deleted []float64
	err = alone(s, func(c *wire.Client) error {
		for n := range pushes + deletes {
			if err := errors.Join(few.push(s, c), many.push(s, c)); err != nil {
				return err
			}
			if n < pushes {
				continue
			}
			head := wire.Request{Method: "DELETE", Path: "/v2/bench/many/manifests/" + pushed[n].digest}.Head()
			took, err := timed(func() error { return c.Do(202, head, nil, nil) })
			if err != nil {
				return err
			}
			deleted = append(deleted, took)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	first, later := median(few.took[:pushes]), median(many.took[:pushes])
	tag, del := median(many.took[pushes+warm:]), median(deleted[warm:])
	return []figure{
		{name: "push of one of the first 100 tags", value: first, unit: "ms"},
		{name: "push of a tag after 5,000", value: later, unit: "ms"},
		{name: "the latter in units of the former", value: later / first, bar: 1.15},
		{name: "delete by digest among 5,000 tags", value: del, unit: "ms"},
		{name: "the same in pushes of a tag", value: del / tag, bar: 3},
	}, nil
}

// A tagPusher pushes images of the same layers under new tags.
type tagPusher struct {
	repository string
	parts      []part // the configuration and layers
	took       []float64
}

func (p *tagPusher) push(s *server, c *wire.Client) (err error) {
	if p.parts == nil {
		if p.parts, err = seedLayers(s, p.repository); err != nil {
			return err
		}
	}
	tag := fmt.Sprintf("new%d", len(p.took))
	manifest := image(p.parts[0], p.parts[1:], tag)
	took, err := timed(func() error { _, err := pushManifest(c, p.repository, tag, manifest); return err })
	p.took = append(p.took, took)
	return err
}

const (
	idleConnections   = 1000
	overlapping       = 64
	overlappingSize   = 64 * mib
	overlappingPieces = 64
	feeding           = 8 * time.Second // how long each upload is fed at least, so that all overlap
)

// memoryUse looks at the resident memory of a server that idles, has many connections, and has many uploads.
func memoryUse(s *server) ([]figure, error) {
	const mb = 1e6
	time.Sleep(time.Second)
	idle, _, err := s.memory()
	if err != nil {
		return nil, err
	}
	connected, err := idleMemory(s)
	if err != nil {
		return nil, err
	}
	if err := s.forgetPeak(); err != nil {
		return nil, err
	}
	if err := feedUploads(s); err != nil {
		return nil, err
	}
	_, peak, err := s.memory()
	return []figure{
		{name: "idle", value: float64(idle) / mb, unit: "MB", bar: 30},
		{name: "1,000 idle connections", value: float64(connected) / mb, unit: "MB", bar: 60},
		{name: "64 uploads of 64 MiB at once, peak", value: float64(peak) / mb, unit: "MB", bar: 120},
	}, err
}

// idleMemory returns the resident memory of a server with connections that have each been used once.
func idleMemory(s *server) (int64, error) {
	ping := wire.Request{Method: "GET", Path: "/v2/"}.Head()
	for range idleConnections {
		c, err := s.dial(time.Now().Add(grace))
		if err != nil {
			return 0, err
		}
		defer c.Close()
		if err := c.Do(200, ping, nil, nil); err != nil {
			return 0, err
		}
	}
	time.Sleep(time.Second)
	now, _, err := s.memory()
	return now, err
}

// feedUploads pushes large blobs at once, piece by piece, each piece no sooner than it is due.
func feedUploads(s *server) error {
	body := noise(overlappingSize-tailSize, 1)
	began := time.Now()
	return each(s, overlapping, overlapping, func(c *wire.Client, n int) error {
		content := newSeries(body, n)
		if err := content.next(); err != nil {
			return err
		}
		p := newPusher(workerRepository(n), content, false)
		if err := c.Do(202, p.begin, nil, nil); err != nil {
			return err
		}
		head := appendLocation([]byte("PUT "), c.Location)
		head = append(append(append(head, "digest="...), p.digest...), p.rest...)
		if _, err := c.Write(head); err != nil {
			return err
		}
		piece := len(body)/overlappingPieces + 1
		for i := range overlappingPieces {
			time.Sleep(time.Until(began.Add(feeding * time.Duration(i+1) / overlappingPieces)))
			if _, err := c.Write(body[i*piece : min((i+1)*piece, len(body))]); err != nil {
				return err
			}
		}
		if _, err := c.Write(content.tail); err != nil {
			return err
		}
		if err := c.Receive(201, head, nil); err != nil {
			return err
		}
		return checkPushed(c, workerRepository(n), content)
	})
}

const (
	storedBlobs  = 100_000
	storedTags   = 20_000
	repositories = 20
	starts       = 11
)

// startTimes compares starting over a full store with starting over an empty one, in turn.
func startTimes(ctx context.Context, b *bench, t target) ([]figure, error) {
	stores := []string{filepath.Join(b.dir, t.name+"-empty"), filepath.Join(b.dir, t.name+"-full")}
	for i, dir := range stores {
		s, err := start(ctx, t, dir)
		if err != nil {
			return nil, err
		}
		defer s.discard()
		if i == 1 {
			if err := fillStore(s); err != nil {
				return nil, err
			}
		}
		s.stop()
	}
	took := make([][]float64, len(stores))
	for range starts {
		for i, dir := range stores {
			s, err := start(ctx, t, dir)
			if err != nil {
				return nil, err
			}
			s.stop()
			took[i] = append(took[i], s.took.Seconds()*1000)
		}
	}
	empty, full := median(took[0]), median(took[1])
	return []figure{
		{name: "ready over an empty store", value: empty, unit: "ms"},
		{name: "ready over 100,000 blobs and 20,000 tags", value: full, unit: "ms"},
		{name: "the latter in units of the former", value: full / empty, bar: 1.2},
		{name: "the slowest of those starts", value: slices.Max(took[1]), unit: "ms"},
	}, nil
}

func fillStore(s *server) error {
	body := noise(100, 1)
	const clients = 16
	pushers := make([]*pusher, clients)
	for n := range pushers {
		pushers[n] = newPusher(fmt.Sprintf("bench/r%d", n), newSeries(body, n), true)
	}
	err := each(s, clients, storedBlobs, func(c *wire.Client, i int) error { return pushers[i%clients].push(c) })
	for r := 0; r < repositories && err == nil; r++ {
		_, err = seedManifests(s, fmt.Sprintf("bench/r%d", r), storedTags/repositories, clients)
	}
	return err
}
