package server

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"berth/registry/observe"
	"berth/storage"
)

const (
	probeTimeout = 5 * time.Second // how long a probe of the storage may take
	probeTTL     = 2 * time.Second // how long its result counts
)

// StorageCheck returns a check of a storage for [Options]: that the driver says it is well, and that a look into it works.
func StorageCheck(d storage.Driver) func(context.Context) error {
	return func(ctx context.Context) error {
		if h, ok := storage.As[interface{ Healthy() error }](d); ok {
			if err := h.Healthy(); err != nil {
				return err
			}
		}
		if _, err := d.Stat(ctx, "config/readiness"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
}

// A probe runs a check, one at a time, and remembers its result for a while. A check that hangs holds nobody up.
type probe struct {
	check   func(context.Context) error
	timeout time.Duration
	ttl     time.Duration
	log     logrus.FieldLogger

	mu      sync.Mutex
	running chan struct{} // closed when the check that runs is done; nil: none runs
	at      time.Time     // of the last result
	err     error
}

var errProbeTimeout = errors.New("the storage does not answer")

func (p *probe) result() error {
	p.mu.Lock()
	if p.running == nil && time.Since(p.at) >= p.ttl {
		p.running = make(chan struct{})
		go p.run(p.running)
	}
	running := p.running
	p.mu.Unlock()
	if running != nil {
		timer := time.NewTimer(p.timeout)
		defer timer.Stop()
		select {
		case <-running:
		case <-timer.C:
			return errProbeTimeout
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

func (p *probe) run(done chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), p.timeout)
	defer cancel()
	err := p.check(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if (err == nil) != (p.err == nil) {
		if err != nil {
			p.log.WithError(err).Warn("the storage is not ready")
		} else {
			p.log.Info("the storage is ready again")
		}
	}
	p.err, p.at, p.running = err, time.Now(), nil
	close(done)
}

// reason says why the storage is not ready, to whoever asks: the error itself is for the log.
func reason(err error) string {
	switch {
	case errors.Is(err, errProbeTimeout), errors.Is(err, context.DeadlineExceeded):
		return errProbeTimeout.Error()
	case errors.Is(err, storage.ErrNoSpace):
		return "the storage is full"
	case errors.Is(err, storage.ErrUnavailable):
		return "the storage is unavailable"
	default:
		return "the storage fails"
	}
}

// live answers that the process serves. It looks at nothing else: a restart would not mend a storage.
func live(w http.ResponseWriter, r *http.Request) {
	observe.Of(w, r).Quiet = true
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(http.StatusOK)
}

// ready answers whether requests should be sent here, and if not, why.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	observe.Of(w, r).Quiet = true
	reasons := []string{}
	if s.draining.Load() {
		reasons = append(reasons, "the server is stopping")
	} else if err := s.probe.result(); err != nil {
		reasons = append(reasons, reason(err))
	}
	status := http.StatusOK
	if len(reasons) > 0 {
		status = http.StatusServiceUnavailable
	}
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"ready": len(reasons) == 0, "reasons": reasons}) // a client that left
}
