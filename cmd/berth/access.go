package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"sync/atomic"

	"github.com/sirupsen/logrus"

	"berth/auth"
	"berth/auth/certificate"
	"berth/auth/htpasswd"
	"berth/auth/oidc"
	"berth/auth/pass"
	"berth/auth/policy"
	"berth/auth/reload"
	"berth/auth/token"
	"berth/configuration"
	"berth/metrics"
	"berth/registry"
	"berth/registry/api"
)

// An access is who is let in and what they may do, with the rules in force. It is safe for concurrent use.
type access struct {
	auth    configuration.Auth   // as it was at the start
	methods auth.Methods         // none when nobody can log in
	users   *htpasswd.File       // one of the methods, as the next two; nil: none
	token   *token.Authenticator // nil: none
	oidc    *oidc.Authenticator  // nil: none
	passes  *pass.Office         // before all of them; nil: none
	realm   string               // for Basic authentication
	holder  *policy.Holder       // of the policy in rules, with the groups; nil when everybody may do everything
	rules   atomic.Pointer[rules]
	mode    readOnlyMode
	log     logrus.FieldLogger
	metrics *metrics.Metrics // told of reloads; nil: none

	authorities  *certificate.Authorities   // of clients' certificates; nil: none
	certificates *certificate.Authenticator // nil: certificates do not say who a client is
}

// newAccess reads the files that a configuration names, and fetches the key set of its token server. Errors name the key, or
// the line of a file, that is wrong.
func newAccess(ctx context.Context, c *configuration.Config, log logrus.FieldLogger) (*access, error) {
	r, err := newRules(c)
	if err != nil {
		return nil, err
	}
	a := &access{auth: c.Auth, realm: "Registry", log: log}
	if err := a.openMethods(ctx, c); err != nil {
		return nil, err
	}
	if err := a.openCertificates(c); err != nil {
		return nil, err
	}
	groups, err := a.openGroups(c)
	if err != nil {
		return nil, err
	}
	if c.Auth.None == nil && c.Auth.Configured() {
		a.holder = policy.NewHolder(r.policy, groups)
	}
	a.install(r)
	return a, nil
}

func (a *access) openMethods(ctx context.Context, c *configuration.Config) (err error) {
	if a.token, err = a.openToken(ctx, c); err != nil {
		return err
	}
	if a.token != nil {
		a.methods = append(a.methods, a.token)
	}
	if a.oidc, err = a.openOIDC(c); err != nil {
		return err
	}
	if a.oidc != nil {
		a.methods = append(a.methods, a.oidc)
	}
	if users := c.Auth.HTPasswd; users != nil {
		a.realm = users.Realm
		a.users, err = htpasswd.Open(users.Path, &htpasswd.Options{OnError: a.failed(metrics.Users), OnReload: a.reloaded(metrics.Users)})
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w; make it by `berth user add %s NAME`", err, users.Path)
		}
		if err != nil {
			return at(c, "auth.htpasswd.path", err)
		}
		a.methods = append(a.methods, a.users) // last: it takes every password
	}
	return nil
}

// openGroups returns nil when there is no file of groups.
func (a *access) openGroups(c *configuration.Config) (*reload.File[*policy.Groups], error) {
	path := c.Authorization.GroupsFile
	if path == "" {
		return nil, nil
	}
	groups, err := policy.OpenGroups(path, &reload.Options{OnError: a.failed(metrics.Groups), OnReload: a.reloaded(metrics.Groups)})
	if err != nil {
		return nil, at(c, "authorization.groupsfile", err)
	}
	return groups, nil
}

// failed is told of each error that keeps what a file says now from taking effect.
func (a *access) failed(what metrics.Reloadable) func(error) {
	return func(err error) {
		a.log.Error(err.Error())
		a.count(what, err)
	}
}

func (a *access) reloaded(what metrics.Reloadable) func() {
	return func() {
		a.log.Info("reloaded the " + what.String())
		a.count(what, nil)
	}
}

func (a *access) count(what metrics.Reloadable, err error) {
	if a.metrics != nil {
		a.metrics.Reloaded(what, err)
	}
}

func (a *access) readOnly() bool { return a.mode.on.Load() }

func (a *access) immutable(n registry.Name, t registry.Tag) bool {
	return a.rules.Load().immutable.Immutable(n.String(), t.String())
}

func (a *access) checkName(repository string) error { return a.rules.Load().naming.Check(repository) }

// authenticator returns all ways to be known. A certificate counts where a request has no credentials of its own.
func (a *access) authenticator() auth.Authenticator {
	var others auth.Authenticator // nil: nobody can log in
	switch {
	case a.passes != nil:
		others = a.passes
	case len(a.methods) > 0:
		others = a.methods
	}
	switch {
	case a.certificates != nil:
		return a.certificates.Before(others)
	case others == nil:
		return auth.Anonymous{}
	}
	return others
}

func (a *access) authorizer() auth.Authorizer {
	if a.holder == nil {
		return auth.ReadOnly{On: a.readOnly, Next: auth.AllowAll{}}
	}
	return auth.ReadOnly{On: a.readOnly, Next: a.holder}
}

// options completes the options of the API.
func (a *access) options(o api.Options) *api.Options {
	o.CheckName = a.checkName
	if a.holder != nil {
		o.MayMoveTags = func(s *auth.Subject, repository string) bool { return a.holder.Policy().MayMoveTags(s, repository) }
	}
	if len(a.methods) > 0 {
		o.Challenge = a.challenge
	}
	o.Passes, o.SendForPasses = a.passes, func() bool { return a.rules.Load().sendForPasses }
	return &o
}

var errRestart = errors.New("of auth, only auth.anonymous changes without a restart, and not whether there is an auth section")

// prepare makes the rules of another configuration, if they can be put in force.
func (a *access) prepare(c *configuration.Config) (*rules, *reload.File[*policy.Groups], error) {
	r, err := newRules(c)
	if err != nil {
		return nil, nil, err
	}
	if !sameMethods(a.auth, c.Auth) {
		return nil, nil, at(c, "auth", errRestart)
	}
	groups, err := a.openGroups(c)
	return r, groups, err
}

// apply puts the rules of another configuration in force, or none of them.
func (a *access) apply(c *configuration.Config) error {
	r, groups, err := a.prepare(c)
	if err != nil {
		return err
	}
	if a.users != nil {
		if err := a.users.Refresh(); err != nil {
			return at(c, "auth.htpasswd.path", err)
		}
	}
	if a.holder != nil {
		a.holder.Replace(r.policy, groups)
	}
	a.install(r)
	return nil
}

func (a *access) install(r *rules) {
	a.rules.Store(r)
	a.mode.configure(r.readOnly)
}

func sameMethods(a, b configuration.Auth) bool {
	configured := a.Configured() == b.Configured()
	a.Anonymous, b.Anonymous = nil, nil
	return configured && reflect.DeepEqual(a, b)
}
