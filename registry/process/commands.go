package process

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"

	"berth/auth"
	"berth/registry"
	"berth/registry/admin"
	"berth/registry/gc"
	"berth/registry/observe"
	"berth/registry/server"
)

// listenAdmin makes the socket for commands. A place that was not configured may not take one, which keeps the server from
// nothing but hearing commands: then, and where there is none, it returns nil.
func (p process) listenAdmin() (*admin.Socket, error) {
	path, configured := p.config.AdminSocket()
	if path == "" {
		return nil, nil
	}
	socket, err := admin.Listen(path)
	if err != nil && !configured {
		p.log.WithError(err).Warn("commands such as `berth status` do not reach this server; set http.admin.socket or http.admin.disabled")
		return nil, nil
	}
	if err != nil {
		return nil, p.config.At("http.admin.socket", err)
	}
	return socket, nil
}

// commands are what can be asked of a server that runs.
type commands struct {
	process
	registry     *registry.Registry
	collector    *gc.Collector
	check        func(context.Context) error // of the storage
	certificates *server.TLS                 // nil without
}

// serve returns a task that serves commands; one that does nothing without a socket.
func (c *commands) serve(socket *admin.Socket, lines *observe.AccessLog) (func(context.Context), error) {
	if c.certificates != nil {
		c.reloader.refresh = append(c.reloader.refresh, c.certificates.Refresh)
	}
	if socket == nil {
		return func(context.Context) {}, nil
	}
	// Whoever opens the socket runs this process or the machine, and may do everything that can be done at all now.
	operators := auth.ReadOnly{On: c.guard.ReadOnly, Next: auth.AllowAll{}}
	handler, err := admin.New(admin.Peers{}, operators, c.log, c.routes()...)
	if err != nil {
		return nil, err
	}
	c.log.WithField("socket", socket.Path()).Info("listening for commands")
	return func(ctx context.Context) {
		socket.Serve(ctx, observe.Handler(handler, observe.Options{AccessLog: lines}, c.log), c.log)
	}, nil
}

// routes are the whole API for commands. Other parts of the server add theirs here.
func (c *commands) routes() []admin.Route {
	return slices.Concat([]admin.Route{
		{Method: "GET", Path: "/v1/status", Access: admin.Administer, Serve: admin.Ask(c.status)},
		{Method: "POST", Path: "/v1/reload", Access: admin.Administer, Serve: admin.Ask(c.reload)},
		{Method: "POST", Path: "/v1/reload/preview", Access: admin.Administer, Serve: admin.Call(c.preview)},
		{Method: "GET", Path: "/v1/loglevel", Access: admin.Administer, Serve: admin.Ask(c.logLevel)},
		{Method: "PUT", Path: "/v1/loglevel", Access: admin.Administer, Serve: admin.Call(c.setLogLevel)},
		{Method: "GET", Path: "/v1/readonly", Access: admin.Administer, Serve: admin.Ask(c.readOnly)},
		{Method: "PUT", Path: "/v1/readonly", Access: admin.Administer, Serve: admin.Call(c.setReadOnly)},
	}, c.gcRoutes(), c.removalRoutes())
}

func (c *commands) reload(context.Context) (admin.Reloaded, error) {
	done, err := c.reloader.reload()
	if err != nil {
		return done, admin.Refused(err)
	}
	return done, nil
}

func (c *commands) preview(_ context.Context, p admin.Preview) (admin.Reloaded, error) {
	done, err := c.reloader.preview(p.Name, p.Text)
	if err != nil {
		return done, admin.Refused(err)
	}
	return done, nil
}

func (c *commands) logLevel(context.Context) (admin.LogLevel, error) {
	return admin.LogLevel{Level: levelName(c.log), Configured: c.reloader.config().Log.Level}, nil
}

// levelName is the level of a log as the configuration has it.
func levelName(log *logrus.Logger) string {
	if level := log.GetLevel(); level != logrus.WarnLevel {
		return level.String()
	}
	return "warn"
}

func (c *commands) setLogLevel(ctx context.Context, to admin.Level) (admin.LogLevel, error) {
	if !slices.Contains(admin.LogLevels(), to.Level) {
		return admin.LogLevel{}, admin.Refused(fmt.Errorf("%q is not one of %s", to.Level, strings.Join(admin.LogLevels(), ", ")))
	}
	before := levelName(c.log)
	if err := setLevel(c.log, to.Level); err != nil {
		return admin.LogLevel{}, err
	}
	c.log.WithFields(logrus.Fields{"from": before, "to": to.Level}).Warn("the level of the log was switched by a command")
	return c.logLevel(ctx)
}

func (c *commands) readOnly(context.Context) (admin.ReadOnly, error) {
	return admin.ReadOnly(c.guard.ReadOnlyMode()), nil
}

func (c *commands) setReadOnly(_ context.Context, to admin.Switch) (admin.ReadOnly, error) {
	state, changed := c.guard.SwitchReadOnly(to.On)
	if changed {
		c.log.WithField("on", to.On).Warn("read-only mode was switched by a command")
	}
	return admin.ReadOnly(state), nil
}
