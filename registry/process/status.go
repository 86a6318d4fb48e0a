package process

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"berth/configuration"
	"berth/registry/admin"
	"berth/registry/gate"
)

const (
	statusTimeout = 3 * time.Second // for each thing that the storage is asked
	countUploads  = 1000            // records
)

// status does not hang with a storage that does.
func (c *commands) status(ctx context.Context) (admin.Status, error) {
	s := admin.Status{
		Version: c.env.Version, PID: os.Getpid(), Started: c.began, Configuration: c.reloader.file, Addresses: []string{},
		TLS: c.certificates != nil, Auth: describeAuth(c.reloader.config()), ReadOnly: admin.ReadOnly(c.guard.ReadOnlyMode()),
		Health:  c.health.Report(),
		Storage: admin.Storage{Driver: c.config.Storage.Driver(), Place: place(c.config.Storage)},
		Limits:  bounds(c.reloader.config(), c.config), Certificates: []admin.Certificate{},
	}
	stats := c.limits.gate.Stats()
	s.Receiving = stats.Uploads
	for class, q := range stats.Classes {
		s.Requests = append(s.Requests, admin.Class{
			Name: gate.Class(class).String(), Running: q.Running, Waiting: q.Queued, MaxRunning: q.Limits.MaxRunning, MaxWaiting: q.Limits.MaxInQueue,
		})
	}
	for _, l := range c.listeners {
		s.Addresses = append(s.Addresses, l.Addr().String())
	}
	if c.certificates != nil {
		for _, one := range c.certificates.Certificates() {
			s.Certificates = append(s.Certificates, admin.Certificate(one))
		}
	}
	if _, err := within(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, c.check(ctx) }); err != nil {
		s.Storage.Problem = err.Error()
		return s, nil
	}
	s.Storage.Ready = true
	uploads, err := within(ctx, func(ctx context.Context) (*admin.Uploads, error) {
		open, more, err := c.registry.OpenUploads(ctx, countUploads)
		return &admin.Uploads{Open: open, More: more}, err
	})
	if err == nil {
		s.Uploads = uploads
	}
	return s, nil
}

// within gives up on what takes longer than statusTimeout, also when that does not look at its context.
func within[T any](ctx context.Context, do func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := do(ctx)
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		return *new(T), fmt.Errorf("no answer for %v", statusTimeout)
	}
}

func place(s configuration.Storage) string {
	switch {
	case s.Filesystem != nil:
		return s.Filesystem.RootDirectory
	case s.EmptyDir != nil:
		return s.EmptyDir.RootDirectory
	}
	return ""
}

// bounds are the limits in force; 0 is none. That of manifests is from the start: a reload does not change it.
func bounds(c, start *configuration.Config) []admin.Limit {
	return []admin.Limit{
		{Key: "http.maxconnections", Value: strconv.Itoa(c.HTTP.MaxConnections)},
		{Key: "requests.maxuploads", Value: strconv.Itoa(c.Requests.MaxUploads)},
		{Key: "requests.maxblobsize", Value: c.Requests.MaxBlobSize.String()},
		{Key: "validation.manifests.maxsize", Value: start.Validation.Manifests.MaxSize.String()},
	}
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
	if len(c.Auth.Anonymous) > 0 {
		methods = append(methods, "without logging in: "+strings.Join(c.Auth.Anonymous, " and "))
	}
	return strings.Join(methods, ", ")
}
