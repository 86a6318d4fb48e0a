package process

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"

	"berth/auth/guard"
	"berth/configuration"
	"berth/metrics"
	"berth/registry/admin"
	"berth/registry/server"
)

// A reloader puts another configuration in force while the server runs, as far as that can be. It is safe for concurrent use.
type reloader struct {
	file    string
	environ []string
	guard   *guard.Guard
	limits  *limits
	log     *logrus.Logger
	count   guard.Told     // of the configuration
	refresh []func() error // look at files that take effect by themselves, without waiting for a request

	mu      sync.Mutex
	started *configuration.Config
	current *configuration.Config // the last one whose rules were put in force
}

var reloadable = []string{"auth.anonymous", "authorization", "storage.maintenance.readonly", "requests", "http.maxconnections", "health.minfreespace", "log.level"}

// Reloadable returns the keys that change without a restart, with all below them.
func Reloadable() []string { return slices.Clone(reloadable) }

func isReloadable(key string) bool {
	return slices.ContainsFunc(reloadable, func(r string) bool { return key == r || strings.HasPrefix(key, r+".") })
}

// Compare returns the keys in which two configurations differ: those that a reload changes, and those that wait for a restart.
func Compare(before, after *configuration.Config) (changed, restart []string) {
	changed, restart = []string{}, []string{}
	for _, key := range configuration.Diff(before, after) {
		if isReloadable(key) {
			changed = append(changed, key)
		} else {
			restart = append(restart, key)
		}
	}
	return changed, restart
}

// reload reads the configuration again. An error, which is logged, changes nothing.
func (r *reloader) reload() (admin.Reloaded, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	done, err := r.attempt()
	r.count(metrics.Configuration, r.file, err)
	if err != nil {
		r.log.WithError(err).Error("the configuration was not reloaded; what was in force stays in force")
		return done, err
	}
	for _, warning := range done.Warnings {
		r.log.Warn(warning)
	}
	r.log.WithFields(logrus.Fields{"changed": strings.Join(done.Changed, " "), "restart": strings.Join(done.Restart, " ")}).
		Info("reloaded the configuration")
	return done, nil
}

func (r *reloader) attempt() (done admin.Reloaded, err error) {
	defer server.Reloading(r.log)()
	_, c, warnings, err := Load(r.file, r.environ)
	if err != nil {
		return done, err
	}
	for _, look := range r.refresh {
		err = errors.Join(err, look())
	}
	if err != nil {
		return done, err
	}
	if err := r.guard.Apply(c); err != nil {
		return done, err
	}
	if c.Log.Level != r.current.Log.Level { // what a command switched is not undone by a reload for another reason
		if err := setLevel(r.log, c.Log.Level); err != nil {
			return done, err
		}
	}
	r.limits.apply(c)
	done = r.compare(c, warnings)
	r.current = c
	return done, nil
}

// setLevel sets the level of a log by its name.
func setLevel(log *logrus.Logger, name string) error {
	level, err := logrus.ParseLevel(name)
	if err != nil {
		return err
	}
	log.SetLevel(level)
	return nil
}

// compare tells what a configuration changes at once, and what after a restart.
func (r *reloader) compare(c *configuration.Config, warnings []configuration.Warning) admin.Reloaded {
	done := admin.Reloaded{Warnings: []string{}, ReadOnly: admin.ReadOnly(r.guard.ReadOnlyMode())}
	done.Changed, _ = Compare(r.current, c)
	_, done.Restart = Compare(r.started, c)
	for _, w := range warnings {
		done.Warnings = append(done.Warnings, w.String())
	}
	return done
}

// preview tells what a reload of another configuration would do, or why it would fail. It changes nothing.
func (r *reloader) preview(name, text string) (admin.Reloaded, error) {
	c, warnings, err := configuration.Parse(name, []byte(text), r.environ)
	if err != nil {
		return admin.Reloaded{}, err
	}
	if err := r.guard.Check(c); err != nil {
		return admin.Reloaded{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.compare(c, warnings), nil
}

// config returns the configuration that was put in force last. Of a key that waits for a restart it has the new value.
func (r *reloader) config() *configuration.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current
}

// onSignal returns a task that reloads at each signal.
func (r *reloader) onSignal(signals <-chan os.Signal) func(context.Context) {
	return func(ctx context.Context) {
		for {
			select {
			case <-ctx.Done():
				return
			case <-signals:
			}
			_, _ = r.reload() // it is logged
		}
	}
}
