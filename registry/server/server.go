// Package server serves HTTP: it listens, mounts the handlers, bounds what stalls, answers health checks, tells the
// service manager how it is, and drains when it is told to stop.
package server

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/mux"
	"github.com/sirupsen/logrus"

	"berth/metrics"
	"berth/registry/health"
	"berth/registry/observe"
	"berth/registry/server/connection"
	"berth/trace"
)

// Options: zero values mean defaults.
type Options struct {
	// Prefix stands before /v2/ in paths.
	Prefix string
	// ReadHeaderTimeout bounds the header of a request. 0: 10 s.
	ReadHeaderTimeout time.Duration
	// IdleTimeout bounds the time between requests on a connection. 0: 2 min.
	IdleTimeout time.Duration
	// ProgressTimeout bounds the time without a byte moving, either way. 0: 1 min.
	ProgressTimeout time.Duration
	// DrainDelay is how long all goes on after the first signal, but for readiness, before the listeners are closed.
	DrainDelay time.Duration
	// DrainTimeout bounds how long running requests may go on once the listeners are closed. 0: they are cut at once.
	DrainTimeout time.Duration
	// MaxHeaderBytes bounds the header of a request. 0: 64 KiB.
	MaxHeaderBytes int
	// Connections bounds how many connections are open. Nil: there is no bound.
	Connections *connection.Set
	// TLS is spoken with these certificates. Nil: plain HTTP is spoken.
	TLS *TLS
	// HTTP1Only turns HTTP/2 off, which is spoken over TLS.
	HTTP1Only bool
	// Health says whether requests can be served. It is run beside them. Nil: they always can.
	Health *health.Monitor
	// Background runs beside the requests, until its context ends.
	Background []func(context.Context)
	// AccessLog gets a line for each request. Nil: there is none.
	AccessLog *observe.AccessLog
	// Metrics count each request. Nil: nothing is counted.
	Metrics *metrics.Metrics
	// Tracer follows each request. Nil: none does.
	Tracer *trace.Tracer
	// Scrape answers /extensions/v2/metrics, below the prefix. Nil: there is no such path.
	Scrape http.Handler
	// Log is for what the operator should know.
	Log logrus.FieldLogger
}

// A Server serves the registry on some listeners.
type Server struct {
	o          Options
	http       *http.Server
	supervisor supervisor
	serving    atomic.Int64 // requests
}

// New makes a server for the API.
func New(api http.Handler, o Options) *Server {
	for value, fallback := range map[*time.Duration]time.Duration{
		&o.ReadHeaderTimeout: 10 * time.Second, &o.IdleTimeout: 2 * time.Minute, &o.ProgressTimeout: time.Minute,
	} {
		if *value <= 0 {
			*value = fallback
		}
	}
	if o.MaxHeaderBytes <= 0 {
		o.MaxHeaderBytes = 64 << 10
	}
	if o.Connections == nil {
		o.Connections = connection.NewSet(0)
	}
	if o.Health == nil {
		o.Health = health.New(o.Log, nil)
	}
	s := &Server{o: o, supervisor: supervisor{os.Getenv}}
	observed := observe.Handler(s.traced(connection.Progressing(s.routes(api), o.ProgressTimeout)), observe.Options{AccessLog: o.AccessLog, Metrics: o.Metrics}, o.Log)
	s.http = &http.Server{
		Handler:           s.counting(connection.Restoring(connection.Streaming(observed, o.ProgressTimeout))),
		ReadHeaderTimeout: o.ReadHeaderTimeout,
		IdleTimeout:       o.IdleTimeout,
		MaxHeaderBytes:    o.MaxHeaderBytes,
		ErrorLog:          log.New(httpErrors{o.Log}, "", 0),
		Protocols:         new(http.Protocols),
		ConnState:         o.Connections.Track,
		ConnContext:       connection.InContext,
	}
	s.http.Protocols.SetHTTP1(true)
	s.http.Protocols.SetHTTP2(!o.HTTP1Only)
	if o.TLS != nil {
		s.http.TLSConfig = o.TLS.speaking(o.HTTP1Only)
	}
	return s
}

// httpErrors writes what net/http complains about to the log.
type httpErrors struct{ log logrus.FieldLogger }

func (w httpErrors) Write(p []byte) (int, error) {
	w.log.Warn(strings.TrimSpace(string(p)))
	return len(p), nil
}

// routes mounts the handlers. Paths reach the API as they were sent: it rejects what is odd, nothing is cleaned. The
// router only finds the handler: serving by itself it would copy each request twice, for variables that none of them has.
func (s *Server) routes(api http.Handler) http.Handler {
	router := mux.NewRouter()
	prefix := strings.TrimSuffix(s.o.Prefix, "/")
	api = s.inService(api)
	router.PathPrefix(prefix + "/v2/").Handler(api)
	router.Path(prefix + "/v2").Handler(api)
	if s.o.Scrape != nil {
		router.Path(prefix + "/extensions/v2/metrics").Handler(s.o.Scrape)
	}
	router.Path("/readyz").HandlerFunc(s.ready)
	for _, path := range []string{"/", "/healthz"} {
		router.Path(path).HandlerFunc(live)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var match mux.RouteMatch
		if router.Match(r, &match) && match.MatchErr == nil {
			match.Handler.ServeHTTP(w, r)
			return
		}
		http.NotFound(w, r)
	})
}

// Run serves on the listeners until a signal comes, ctx ends or serving fails, and then drains: it is not ready any more, stops
// accepting after the drain delay, lets running requests finish for as long as the drain timeout, and cuts the rest. Another
// signal ends the waiting. It returns nil when it was told to stop.
func (s *Server) Run(ctx context.Context, listeners []net.Listener, signals <-chan os.Signal) error {
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	defer func() { stop(); running.Wait() }()
	tasks := append(s.o.Background, s.supervisor.watchdog, s.o.Health.Run)
	if s.o.TLS != nil {
		tasks = append(tasks, s.o.TLS.watch)
	}
	for _, task := range tasks {
		running.Go(func() { task(background) })
	}
	listeners = slices.Clone(listeners)
	failed := make(chan error, len(listeners))
	var accepting sync.WaitGroup
	stopAccepting := func() {
		for _, l := range listeners {
			_ = l.Close() // what it says, serve returns
		}
		accepting.Wait()
	}
	for i, l := range listeners {
		listeners[i] = connection.NewListener(l, s.o.ProgressTimeout, s.o.Connections)
		accepting.Go(func() { failed <- s.serve(listeners[i]) })
		s.o.Log.WithFields(logrus.Fields{"address": l.Addr().String(), "tls": s.o.TLS != nil}).Info("listening")
	}
	s.tell("READY=1")
	var cause error
	select {
	case err := <-failed:
		cause = fmt.Errorf("serve: %w", err)
	case sig := <-signals:
		s.o.Log.WithField("signal", sig.String()).Info("stopping")
	case <-ctx.Done():
	}
	s.drain(signals, stopAccepting)
	return cause
}

// serve speaks TLS above the connections that must make progress: a handshake that stalls is cut like a header.
func (s *Server) serve(l net.Listener) error {
	if s.o.TLS == nil {
		return s.http.Serve(l)
	}
	return s.http.ServeTLS(l, "", "")
}

// drain ends the server: gently at first.
func (s *Server) drain(signals <-chan os.Signal, stopAccepting func()) {
	s.o.Health.Stopping()
	s.tell("STOPPING=1")
	hurried, hurry := context.WithCancel(context.Background())
	defer hurry()
	go func() {
		select {
		case <-signals:
			hurry()
		case <-hurried.Done():
		}
	}()
	select {
	case <-time.After(s.o.DrainDelay):
	case <-hurried.Done():
	}
	ctx, cancel := context.WithTimeout(hurried, s.o.DrainTimeout)
	defer cancel()
	stopAccepting()
	s.http.SetKeepAlivesEnabled(false)
	s.o.Connections.Settle(ctx)
	if s.http.Shutdown(ctx) == nil {
		return
	}
	s.o.Log.Warn("cutting the requests that still run")
	if err := s.http.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		s.o.Log.WithError(err).Warn("closing connections")
	}
	for deadline := time.Now().Add(settleTime); s.serving.Load() > 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
}

// settleTime is how long a request whose connection was cut may take to write down how far it came, so that it can go on there.
const settleTime = 5 * time.Second

func (s *Server) counting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connection.Arrived(r)
		s.serving.Add(1)
		defer s.serving.Add(-1)
		next.ServeHTTP(w, r)
	})
}

func (s *Server) tell(state string) {
	if err := s.supervisor.tell(state); err != nil {
		s.o.Log.WithError(err).Warn("the service manager was not told " + state)
	}
}
