package process

import (
	"context"
	"fmt"
	"net/http"
	"regexp"

	"berth/configuration"
	"berth/registry"
	"berth/registry/admin"
	"berth/registry/api"
	"berth/registry/gc"
	"berth/registry/health"
	"berth/registry/observe"
	"berth/registry/server"
	"berth/storage"
	"berth/storage/open"
)

// chunkMinLength is the size of chunks that clients are asked for, in bytes: each chunk is an object of the storage.
const chunkMinLength = 1 << 20

// newServer wires the parts together. The access log and the socket for commands may be nil.
func (p process) newServer(ctx context.Context, store *open.Store, lines *observe.AccessLog, socket *admin.Socket) (*server.Server, error) {
	reg, err := p.openRegistry(ctx, store)
	if err != nil {
		return nil, err
	}
	if err := p.guard.OpenPasses(p.config, reg.DeriveKey); err != nil {
		return nil, err
	}
	p.watchStorage(store.Driver, reg)
	p.watchOthers()
	handler, err := p.newAPI(reg, store.Driver)
	if err != nil {
		return nil, err
	}
	o := p.serverOptions()
	o.AccessLog = lines
	if o.TLS, err = openTLS(p.config, p.guard.Authorities(), p.count, p.log); err != nil {
		return nil, err
	}
	collector := p.collector(store, reg)
	commands := &commands{process: p, registry: reg, collector: collector, check: health.Storage(store.Driver), certificates: o.TLS}
	if o.Background, err = p.background(reg, collector); err != nil {
		return nil, err
	}
	if err := p.measure(&o, store.Driver); err != nil {
		return nil, err
	}
	task, err := commands.serve(socket, lines)
	if err != nil {
		return nil, err
	}
	o.Background = append(o.Background, task)
	return server.New(handler, o), nil
}

func (p process) openRegistry(ctx context.Context, store *open.Store) (*registry.Registry, error) {
	c := p.config
	manifests, err := newPolicy(c.Validation)
	if err != nil {
		return nil, err
	}
	reg, err := registry.Open(ctx, store.Driver, &registry.Options{
		Reads: store.Reads, Grace: c.GC.Grace, UploadAge: c.Storage.Maintenance.UploadPurging.Age, ReadOnly: p.guard.ReadOnly,
		MaxBlob: p.limits.maxBlob.Load, MaxManifest: int64(c.Validation.Manifests.MaxSize), Manifests: manifests,
		Immutable: p.immutable, Secret: []byte(c.HTTP.Secret.Reveal()),
	})
	if err == nil && !reg.SharesSecret() {
		p.log.Warn("the storage keeps no key for ids of uploads and tokens, and read-only mode lets none be put there: other replicas do not " +
			"take those of this one; set http.secret, or restart once the mode is off")
	}
	return reg, err
}

func (p process) newAPI(reg *registry.Registry, store storage.Driver) (http.Handler, error) {
	c := p.config
	redirect, err := redirects(c.Storage.Redirect, store)
	if err != nil {
		return nil, err
	}
	o := &api.Options{
		Host: c.HTTP.Host, Prefix: c.HTTP.Prefix, RelativeURLs: c.HTTP.RelativeURLs, Headers: c.HTTP.Headers,
		DeleteEnabled: c.Storage.Delete.Enabled, MaxManifest: int64(c.Validation.Manifests.MaxSize),
		MaxTags: c.Tags.MaxTags, MaxCatalog: c.Catalog.MaxEntries, ChunkMinLength: chunkMinLength,
		Redirect: redirect, RedirectExpiry: c.Storage.Redirect.Expiry,
		CheckName: p.guard.CheckName, MayMoveTags: p.guard.MayMoveTags,
		Passes: p.guard.Passes(), SendForPasses: p.guard.SendsForPasses,
		Gate: p.limits.gate, MayChange: p.health.MayChange, Log: p.log,
	}
	if p.guard.MayLogIn() {
		o.Challenge = p.guard.Challenge
	}
	return api.New(reg, p.guard.Authenticator(), p.guard.Authorizer(), o)
}

// serverOptions are those that need no other part.
func (p process) serverOptions() server.Options {
	c := p.config.HTTP
	return server.Options{
		HTTP1Only: c.HTTP2.Disabled, Prefix: c.Prefix, MaxHeaderBytes: int(c.MaxHeaderBytes), Connections: p.limits.connections,
		ReadHeaderTimeout: c.ReadHeaderTimeout, IdleTimeout: c.IdleTimeout, ProgressTimeout: c.ProgressTimeout,
		DrainDelay: c.DrainDelay, DrainTimeout: c.DrainTimeout, Health: p.health, Tracer: p.tracer, Log: p.log,
	}
}

// background returns the tasks of the configuration.
func (p process) background(reg *registry.Registry, collector *gc.Collector) ([]func(context.Context), error) {
	tasks := []func(context.Context){p.reloader.onSignal(p.hangups), p.guard.Warm}
	if purging := p.config.Storage.Maintenance.UploadPurging; purging.Enabled {
		tasks = append(tasks, server.UploadPurger(reg, purging.Age, purging.Interval, purging.DryRun, p.guard.ReadOnly, p.log))
	}
	if !p.config.GC.Enabled {
		return tasks, nil
	}
	collect, err := p.follow(collector)
	return append(tasks, collect), err
}

func (p process) immutable(n registry.Name, t registry.Tag) bool {
	return p.guard.Immutable(n.String(), t.String())
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
