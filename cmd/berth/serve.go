package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"regexp"
	"syscall"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"berth/auth"
	"berth/configuration"
	"berth/registry"
	"berth/registry/api"
	"berth/registry/observe"
	"berth/registry/server"
	"berth/storage"
	"berth/storage/open"
)

// chunkMinLength is the size of chunks that clients are asked for, in bytes: each chunk is an object of the storage.
const chunkMinLength = 1 << 20

func newServe(env environment) *cobra.Command {
	return &cobra.Command{
		Use: "serve [FILE]", Short: "Serve the registry",
		Long: "serve runs the registry that a file and the REGISTRY_* variables configure. Without FILE it takes the one named by\n" +
			"REGISTRY_CONFIGURATION_PATH, or the first there is of the usual places. SIGTERM and SIGINT let running requests\n" +
			"finish (http.draintimeout); a second one does not wait.",
		Example: "  berth serve config.yml\n  REGISTRY_STORAGE=inmemory berth serve config.yml",
		Args:    usage(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := ""
			if len(args) > 0 {
				file = args[0]
			}
			return serve(cmd.Context(), file, env)
		},
	}
}

// serve runs the registry until it is told to stop.
func serve(ctx context.Context, file string, env environment) error {
	_, c, warnings, err := read([]string{file}, env)
	if err != nil {
		printWarnings(env.stderr, warnings)
		return err
	}
	log, err := server.NewLogger(env.stderr, server.LogOptions{
		Level: c.Log.Level, Formatter: c.Log.Formatter, Fields: c.Log.Fields, ReportCaller: c.Log.ReportCaller,
	})
	if err != nil {
		return err
	}
	for _, w := range warnings {
		log.Warn(w.String())
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	starting, started := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer started()
	listeners, err := server.Listen(c.HTTP.Net, c.HTTP.Addr, c.Auth.None != nil)
	if err != nil {
		return err
	}
	defer closeAll(listeners)
	log.WithFields(logrus.Fields{"version": version, "storage": c.Storage.Driver(), "auth": describeAuth(c)}).Info("starting")
	err = withServer(starting, c, env, log, func(s *server.Server) error {
		started()
		return s.Run(ctx, listeners, signals)
	})
	if starting.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // told to stop before it began
	}
	return err
}

// withServer opens all that a server needs, lets run use it, and closes what was opened.
func withServer(ctx context.Context, c *configuration.Config, env environment, log *logrus.Logger, run func(*server.Server) error) (err error) {
	store, closeStore, _, err := open.Driver(ctx, c.Storage)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeStore()) }()
	var access *observe.AccessLog
	if !c.Log.AccessLog.Disabled {
		access = observe.NewAccessLog(env.stdout, c.Log.Formatter != "text")
		defer func() { err = errors.Join(err, access.Close()) }()
	}
	s, err := newServer(ctx, c, store, log, access)
	if err != nil {
		return err
	}
	return run(s)
}

// newServer wires the parts together.
func newServer(ctx context.Context, c *configuration.Config, store storage.Driver, log *logrus.Logger, access *observe.AccessLog) (*server.Server, error) {
	readOnly := func() bool { return c.Storage.Maintenance.ReadOnly.Enabled }
	policy, err := newPolicy(c.Validation)
	if err != nil {
		return nil, err
	}
	reg, err := registry.Open(ctx, store, &registry.Options{
		Grace: c.GC.Grace, UploadAge: c.Storage.Maintenance.UploadPurging.Age, ReadOnly: readOnly,
		MaxManifest: int64(c.Validation.Manifests.MaxSize), Manifests: policy, Secret: []byte(c.HTTP.Secret.Reveal()),
	})
	if err != nil {
		return nil, err
	}
	handler, err := api.New(reg, auth.Anonymous{}, auth.ReadOnly{On: readOnly, Next: auth.AllowAll{}}, &api.Options{
		Host: c.HTTP.Host, Prefix: c.HTTP.Prefix, RelativeURLs: c.HTTP.RelativeURLs, Headers: c.HTTP.Headers,
		DeleteEnabled: c.Storage.Delete.Enabled, MaxManifest: int64(c.Validation.Manifests.MaxSize),
		MaxTags: c.Tags.MaxTags, MaxCatalog: c.Catalog.MaxEntries, ChunkMinLength: chunkMinLength, Log: log,
	})
	if err != nil {
		return nil, err
	}
	o := server.Options{
		Prefix: c.HTTP.Prefix, ReadHeaderTimeout: c.HTTP.ReadHeaderTimeout, IdleTimeout: c.HTTP.IdleTimeout,
		ProgressTimeout: c.HTTP.ProgressTimeout, DrainTimeout: c.HTTP.DrainTimeout, MaxHeaderBytes: int(c.HTTP.MaxHeaderBytes),
		Check: server.StorageCheck(store), AccessLog: access, Log: log,
	}
	if purging := c.Storage.Maintenance.UploadPurging; purging.Enabled {
		o.Background = append(o.Background,
			server.UploadPurger(reg, purging.Age, purging.Interval, purging.DryRun, readOnly, log))
	}
	return server.New(handler, o), nil
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
			return nil, fmt.Errorf("validation.manifests.urls: %w", err)
		}
		compiled = append(compiled, re)
	}
	return compiled, nil
}

func describeAuth(c *configuration.Config) string {
	if c.Auth.None != nil {
		return "none: everybody may do everything"
	}
	return "none is configured: only this machine is listened to"
}

// closeAll closes listeners that may be closed already.
func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		_ = l.Close()
	}
}
