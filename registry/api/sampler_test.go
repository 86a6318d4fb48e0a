package api

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"berth/registry/gate"
)

func TestSampler(t *testing.T) {
	var s sampler
	now := time.Now()
	for i, test := range []struct {
		reason gate.Reason
		after  time.Duration
		others int
		ok     bool
	}{
		{gate.QueueFull, 0, 0, true}, {gate.QueueFull, 0, 0, false}, {gate.QueueFull, 9 * time.Second, 0, false},
		{gate.UserRate, 0, 0, true}, {gate.QueueFull, time.Second, 2, true}, {gate.QueueFull, time.Minute, 0, true},
	} {
		now = now.Add(test.after)
		if others, ok := s.take(test.reason, now); others != test.others || ok != test.ok {
			t.Errorf("%d: %d, %t", i, others, ok)
		}
	}
}

// TestTurnedAwayIsLogged: one line for each reason, which says who and why.
func TestTurnedAwayIsLogged(t *testing.T) {
	var lines bytes.Buffer
	log := logrus.New()
	log.Out, log.Formatter = &lines, &logrus.JSONFormatter{}
	g := gate.New(gate.Limits{PerAddress: gate.Rate{PerSecond: 1, Burst: 1}}, nil)
	w := newWorld(t, &Options{Gate: g, Log: log})
	w.run(exchange{do: "GET /v2/", want: 200})
	for range 3 {
		w.run(exchange{do: "PUT /v2/a/manifests/v1", header: "X-Request-Id: mine", body: "{}", want: 429})
	}
	var got map[string]any
	if err := json.Unmarshal(lines.Bytes(), &got); err != nil { // also when there are two
		t.Fatalf("%v: %s", err, lines.String())
	}
	for field, want := range map[string]any{"http.request.id": "mine", "class": "write", "reason": "address_rate", "level": "warning",
		"http.request.uri": "http://reg.test/v2/a/manifests/v1", "http.request.remoteaddr": "192.0.2.1:1234", "others": 0.0} {
		if got[field] != want {
			t.Errorf("%s is %v, want %v", field, got[field], want)
		}
	}
}
