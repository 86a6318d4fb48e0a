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
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"berth/auth/guard"
	"berth/configuration"
	"berth/metrics"
	"berth/registry"
	"berth/registry/admin"
	"berth/registry/api"
	"berth/registry/health"
	"berth/registry/observe"
	"berth/registry/server"
	"berth/storage/open"
	"berth/trace"
)

// chunkMinLength is the size of chunks that clients are asked for, in bytes: each chunk is an object of the storage.
const chunkMinLength = 1 << 20

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

// Serve runs the registry of a configuration that [Load] returned, until a signal or the end of ctx tells it to stop.
func Serve(ctx context.Context, file string, c *configuration.Config, warnings []configuration.Warning, env Environment) error {
	log, err := server.NewLogger(env.Stderr, server.LogOptions{
		Level: c.Log.Level, Formatter: c.Log.Formatter, Fields: c.Log.Fields, ReportCaller: c.Log.ReportCaller,
		Instance: newInstance(), Version: env.Version,
	})
	if err != nil {
		return err
	}
	for _, w := range warnings {
		log.Warn(w.String())
	}
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
		o.Spans = p.tracer.Call
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

// newServer wires the parts together. The access log and the socket for commands may be nil.
func (p process) newServer(ctx context.Context, store *open.Store, lines *observe.AccessLog, socket *admin.Socket) (*server.Server, error) {
	c := p.config
	manifests, err := newPolicy(c.Validation)
	if err != nil {
		return nil, err
	}
	reg, err := registry.Open(ctx, store.Driver, &registry.Options{
		Reads: store.Reads,
		Grace: c.GC.Grace, UploadAge: c.Storage.Maintenance.UploadPurging.Age, ReadOnly: p.guard.ReadOnly,
		MaxBlob: p.limits.maxBlob.Load, MaxManifest: int64(c.Validation.Manifests.MaxSize), Manifests: manifests, Immutable: p.immutable,
		Secret: []byte(c.HTTP.Secret.Reveal()),
	})
	if err != nil {
		return nil, err
	}
	if err := p.guard.OpenPasses(c, reg.DeriveKey); err != nil {
		return nil, err
	}
	p.watchStorage(store.Driver, reg)
	p.watchOthers()
	redirect, err := redirects(c.Storage.Redirect, store.Driver)
	if err != nil {
		return nil, err
	}
	handler, err := api.New(reg, p.guard.Authenticator(), p.guard.Authorizer(), p.guarded(api.Options{
		Host: c.HTTP.Host, Prefix: c.HTTP.Prefix, RelativeURLs: c.HTTP.RelativeURLs, Headers: c.HTTP.Headers,
		DeleteEnabled: c.Storage.Delete.Enabled, MaxManifest: int64(c.Validation.Manifests.MaxSize),
		MaxTags: c.Tags.MaxTags, MaxCatalog: c.Catalog.MaxEntries, ChunkMinLength: chunkMinLength,
		Redirect: redirect, RedirectExpiry: c.Storage.Redirect.Expiry, Gate: p.limits.gate, MayChange: p.health.MayChange, Log: p.log,
	}))
	if err != nil {
		return nil, err
	}
	certificates, err := p.openTLS()
	if err != nil {
		return nil, err
	}
	o := server.Options{
		TLS: certificates, HTTP1Only: c.HTTP.HTTP2.Disabled, Prefix: c.HTTP.Prefix,
		ReadHeaderTimeout: c.HTTP.ReadHeaderTimeout, IdleTimeout: c.HTTP.IdleTimeout,
		Connections: p.limits.connections, ProgressTimeout: c.HTTP.ProgressTimeout, DrainDelay: c.HTTP.DrainDelay, DrainTimeout: c.HTTP.DrainTimeout, MaxHeaderBytes: int(c.HTTP.MaxHeaderBytes),
		Health: p.health, Tracer: p.tracer, AccessLog: lines, Log: p.log, Background: []func(context.Context){p.reloader.onSignal(p.hangups), p.guard.Warm},
	}
	if purging := c.Storage.Maintenance.UploadPurging; purging.Enabled {
		o.Background = append(o.Background,
			server.UploadPurger(reg, purging.Age, purging.Interval, purging.DryRun, p.guard.ReadOnly, p.log))
	}
	collector := p.collector(store, reg)
	if c.GC.Enabled {
		collect, err := p.follow(collector)
		if err != nil {
			return nil, err
		}
		o.Background = append(o.Background, collect)
	}
	if err := p.measure(&o, store.Driver); err != nil {
		return nil, err
	}
	commands := &commands{process: p, registry: reg, collector: collector, check: health.Storage(store.Driver), certificates: certificates}
	task, err := commands.serve(socket, lines)
	if err != nil {
		return nil, err
	}
	o.Background = append(o.Background, task)
	return server.New(handler, o), nil
}

// guarded completes the options of the API.
func (p process) guarded(o api.Options) *api.Options {
	o.CheckName, o.MayMoveTags = p.guard.CheckName, p.guard.MayMoveTags
	if p.guard.MayLogIn() {
		o.Challenge = p.guard.Challenge
	}
	o.Passes, o.SendForPasses = p.guard.Passes(), p.guard.SendsForPasses
	return &o
}

func (p process) immutable(n registry.Name, t registry.Tag) bool {
	return p.guard.Immutable(n.String(), t.String())
}

// reloaded is told of what the guard reads again by itself.
func (p process) reloaded(what metrics.Reloadable, err error) {
	if err != nil {
		p.log.Error(err.Error())
	} else {
		p.log.Info("reloaded the " + what.String())
	}
	p.count(what, err)
}

func newPolicy(v configuration.Validation) (p registry.Policy, err error) {
	if v.Disabled {
		p.Platforms = registry.OnlyPlatforms()
		return p, nil
	}
	switch v.Manifests.Indexes.Platforms {
	case "none":
		p.Platforms = registry.OnlyPlatforms()
	case "list":
		var platforms []string
		for _, platform := range v.Manifests.Indexes.PlatformList {
			platforms = append(platforms, platform.OS+"/"+platform.Architecture)
		}
		p.Platforms = registry.OnlyPlatforms(platforms...)
	}
	if p.AllowURLs, err = compile(v.Manifests.URLs.Allow); err == nil {
		p.DenyURLs, err = compile(v.Manifests.URLs.Deny)
	}
	return p, err
}

func compile(expressions []string) (compiled []*regexp.Regexp, err error) {
	for _, s := range expressions {
		re, err := regexp.Compile(s)
		if err != nil {
			return nil, fmt.Errorf("compile a regular expression: %w", err)
		}
		compiled = append(compiled, re)
	}
	return compiled, nil
}

// newInstance makes a name of this process for its log.
func newInstance() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b)                         // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // RFC 9562, section 5.4
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func describeCache(c *configuration.Config) string {
	if c.Storage.Cache.Size == 0 {
		return "none"
	}
	return c.Storage.Cache.Size.String() + " in memory"
}

func describeAuth(c *configuration.Config) string {
	switch {
	case c.Auth.None != nil:
		return "none: everybody may do everything"
	case !c.Auth.Configured():
		return "none is configured: only this machine is listened to"
	}
	var methods []string
	if c.Auth.Token != nil {
		methods = append(methods, "token")
	}
	if c.Auth.OIDC != nil {
		methods = append(methods, "oidc")
	}
	if c.Auth.HTPasswd != nil {
		methods = append(methods, "htpasswd")
	}
	if c.Auth.ClientCertificate != nil {
		methods = append(methods, "client certificates")
	}
	if len(methods) == 0 {
		return "anonymous only"
	}
	return strings.Join(methods, ", ")
}

// closeAll closes listeners that may be closed already.
func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		_ = l.Close()
	}
}
