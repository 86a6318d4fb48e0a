package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"berth/registry/health"
)

// Debug answers on the listener for who runs the server: metrics at a path ("" for none), and at /debug/health, where probes of CNCF
// distribution ask, what /readyz does, to whoever reaches it; Go's profiles, which tell of what is in memory, to the same machine only.
func Debug(metricsPath string, metrics http.Handler, found *health.Monitor) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, profile := strings.CutPrefix(r.URL.Path, "/debug/pprof/")
		switch {
		case r.Method != http.MethodGet && r.Method != http.MethodHead && !(profile && name == "symbol"):
			http.Error(w, "this listener is only read from", http.StatusMethodNotAllowed)
		case metricsPath != "" && r.URL.Path == metricsPath:
			metrics.ServeHTTP(w, r)
		case r.URL.Path == "/debug/health":
			writeReadiness(w, found.Report())
		case profile && !fromHere(r):
			http.Error(w, "profiles are for the machine of the server only", http.StatusForbidden)
		case profile:
			serveProfile(name, w, r)
		default:
			http.NotFound(w, r)
		}
	})
}

func serveProfile(name string, w http.ResponseWriter, r *http.Request) {
	switch name {
	case "cmdline":
		pprof.Cmdline(w, r)
	case "profile":
		pprof.Profile(w, r)
	case "symbol":
		pprof.Symbol(w, r)
	case "trace":
		pprof.Trace(w, r)
	default:
		pprof.Index(w, r)
	}
}

// fromHere reports whether a request comes from this machine, and was not sent by the page of another site whose name leads
// here: then it has that name for its host.
func fromHere(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !peer.Addr().Unmap().IsLoopback() {
		return false
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	named, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && named.IsLoopback()
}

// ServeDebug returns a task that serves a handler on a listener, which it closes.
func ServeDebug(l net.Listener, h http.Handler, log logrus.FieldLogger) func(context.Context) {
	return func(ctx context.Context) {
		s := &http.Server{
			Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
			WriteTimeout: 10 * time.Minute, MaxHeaderBytes: 64 << 10, // the time is for profiles
		}
		stop := context.AfterFunc(ctx, func() { _ = s.Close() }) // what it has to tell, Serve returns
		defer stop()
		log.WithField("address", l.Addr().String()).Info("listening for debugging")
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.WithError(err).Error("the listener for debugging ended")
		}
	}
}
