// Package process is one process of the registry: what a configuration names, wired together, served until it is told to stop,
// reloaded, and told by commands. For commands that need no server it opens a store by itself.
package process

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"berth/auth/guard"
	"berth/configuration"
	"berth/metrics"
	"berth/registry/health"
	"berth/registry/observe"
	"berth/registry/server"
	"berth/storage/open"
	"berth/trace"
)

// An Environment is what a process is given.
type Environment struct {
	Environ []string
	Stdout  io.Writer // for the access log
	Stderr  io.Writer // for the log
	Version string    // of the program
}

// Load reads and checks the configuration at path, or the one that is there if that is empty; see [configuration.Path]. No file is
// read that it names.
func Load(path string, environ []string) (file string, c *configuration.Config, warnings []configuration.Warning, err error) {
	if file, err = configuration.Path(path, environ, configuration.DefaultPaths()); err != nil {
		return "", nil, nil, err
	}
	if c, warnings, err = configuration.Load(file, environ); err == nil {
		err = guard.CheckRules(c)
	}
	return file, c, warnings, err
}

// A LoggedError is why a process ended, of which its log has a line, since that is not made for people.
type LoggedError struct{ Err error }

func (e *LoggedError) Error() string { return e.Err.Error() }

// Unwrap returns what happened.
func (e *LoggedError) Unwrap() error { return e.Err }

// Serve runs the registry of a configuration that [Load] returned, until a signal or the end of ctx tells it to stop.
func Serve(ctx context.Context, file string, c *configuration.Config, warnings []configuration.Warning, env Environment) error {
	log, err := server.NewLogger(env.Stderr, server.LogOptions{
		Level: c.Log.Level, Formatter: c.Log.Formatter, Fields: c.Log.Fields, ReportCaller: c.Log.ReportCaller,
		Instance: newInstance(), Version: env.Version,
	})
	if err != nil {
		return err
	}
	err = serve(ctx, file, c, warnings, env, log)
	if err != nil && c.Log.Formatter != "text" {
		log.WithError(err).Error("berth ends")
		return &LoggedError{err}
	}
	return err
}

func serve(ctx context.Context, file string, c *configuration.Config, warnings []configuration.Warning, env Environment, log *logrus.Logger) (err error) {
	for _, w := range warnings {
		log.Warn(w.String())
	}
	signal.Ignore(syscall.SIGPIPE) // whoever reads the log or the access log may end; transfers go on
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	starting, started := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer started()
	log.WithFields(logrus.Fields{"configuration": file, "storage": strings.TrimSpace(c.Storage.Driver() + " " + place(c.Storage)),
		"auth": describeAuth(c), "cache": describeCache(c)}).Info("starting berth " + env.Version)
	p := process{env: env, config: c, metrics: newMetrics(c, env.Version), log: log, hangups: hangups, began: time.Now()}
	if p.tracer, err = trace.Open(ctx, os.Getenv, env.Version, func(err error) { log.WithError(err).Warn("traces are lost") }); err != nil {
		return err
	}
	defer p.closeTracer()
	p.limits, p.health, p.writing = newLimits(c, p.metrics), p.newHealth(), &health.Writing{}
	p.guard, err = guard.Open(starting, c, p.reloaded)
	if err == nil {
		p.reloader = &reloader{file: file, environ: env.Environ, guard: p.guard, limits: p.limits, log: log, count: p.count, started: c, current: c}
		err = p.withServer(starting, env.Stdout, func(s *server.Server, listeners []net.Listener) error {
			started()
			forgetStart()
			return s.Run(ctx, listeners, signals)
		})
	}
	if starting.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // told to stop before it began
	}
	return err
}

// traceTimeout is how long the end of a process waits for its last spans to be sent.
const traceTimeout = 3 * time.Second

func (p process) closeTracer() {
	if p.tracer == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), traceTimeout)
	defer cancel()
	if err := p.tracer.Close(ctx); err != nil {
		p.log.WithError(err).Warn("the last traces are lost")
	}
}

// storeOptions are those of the storage, with whoever is told of its calls.
func (p process) storeOptions() open.Options {
	o := storeOptions(p.metrics, p.storeFailed, func(text string) { p.log.Warn(text) })
	if p.tracer != nil {
		o.Spans = func(ctx context.Context, operation, key string) (context.Context, func(error)) {
			ctx, end := p.tracer.Call(ctx, operation, key)
			return ctx, func(err error) {
				if class := storeError(err); class == metrics.NoError || class == metrics.NotFound {
					err = nil // an answer like others
				}
				end(err)
			}
		}
	}
	return o
}

// A process is what the parts of a server are made from.
type process struct {
	env       Environment
	config    *configuration.Config
	guard     *guard.Guard
	limits    *limits
	metrics   *metrics.Metrics // nil: there are none
	tracer    *trace.Tracer    // likewise
	health    *health.Monitor
	writing   *health.Writing
	log       *logrus.Logger
	listeners []net.Listener
	reloader  *reloader
	hangups   <-chan os.Signal
	began     time.Time
}

// withServer opens all that a server needs, lets run use it, and closes what was opened. It listens only once the storage is
// known to work.
func (p process) withServer(ctx context.Context, accessLog io.Writer, run func(*server.Server, []net.Listener) error) (err error) {
	store, err := open.Open(ctx, p.config.Storage, p.storeOptions())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if open.HasDistribution(ctx, store.Driver) {
		p.log.Warn("the storage also has the data of a CNCF distribution registry (docker/registry/v2), which is not read: copy the " +
			"repositories over from the running registry with a client such as skopeo")
	}
	if p.listeners, err = server.Listen(p.config.HTTP.Net, p.config.HTTP.Addr, p.config.Auth.Configured()); err != nil {
		return err
	}
	defer closeAll(p.listeners)
	var lines *observe.AccessLog
	if !p.config.Log.AccessLog.Disabled {
		lines = observe.NewAccessLog(accessLog, p.config.Log.AccessLogIsJSON())
		defer func() { err = errors.Join(err, lines.Close()) }()
	}
	socket, err := p.listenAdmin()
	if err != nil {
		return err
	}
	if socket != nil {
		defer func() { err = errors.Join(err, socket.Close()) }()
	}
	s, err := p.newServer(ctx, store, lines, socket)
	if err != nil {
		return err
	}
	return run(s, p.listeners)
}

// closeAll closes listeners that may be closed already.
func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		_ = l.Close()
	}
}

// newInstance makes a name of this process for its log.
func newInstance() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b)                         // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // RFC 9562, section 5.4
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// reloaded is told of what the guard reads again by itself.
func (p process) reloaded(what metrics.Reloadable, source string, err error) {
	if err != nil {
		p.log.Error(err.Error())
	} else {
		p.log.Info("reloaded the " + what.String())
	}
	p.count(what, source, err)
}
