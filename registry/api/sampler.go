package api

import (
	"net/http"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"berth/registry/gate"
	"berth/registry/observe"
)

// sampleInterval is the time between two lines of the log about requests that were turned away for the same reason: there are
// most of them when the server has least time.
const sampleInterval = 10 * time.Second

// A sampler lets one of many events through in a while, for each reason. The zero value is ready.
type sampler struct {
	mu      sync.Mutex
	reasons map[gate.Reason]sample
}

type sample struct {
	at     time.Time // of the last that was let through
	others int       // since then
}

// take reports whether an event is let through, and how many before it were not.
func (s *sampler) take(r gate.Reason, now time.Time) (others int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.reasons[r]
	if now.Sub(last.at) < sampleInterval {
		last.others++
		s.reasons[r] = last
		return 0, false
	}
	if s.reasons == nil {
		s.reasons = make(map[gate.Reason]sample)
	}
	s.reasons[r] = sample{at: now}
	return last.others, true
}

// logTurnedAway writes a line about a request that a limit turned away, unless there was one a short time ago.
func (a *API) logTurnedAway(w *observe.Exchange, r *http.Request, busy *gate.Error) {
	others, ok := a.turnedAway.take(busy.Reason, time.Now())
	if !ok {
		return
	}
	fields := logrus.Fields{
		"http.request.id": w.ID, "http.request.method": r.Method, "http.request.uri": r.RequestURI, "http.request.remoteaddr": r.RemoteAddr,
		"class": busy.Class.String(), "reason": busy.Reason.String(), "others": others,
	}
	if w.Subject != "" {
		fields["auth.user.name"] = w.Subject
	}
	a.log.WithFields(fields).Warn("a request was turned away")
}
