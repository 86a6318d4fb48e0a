// Package guard is who is let in, and what they may do, as a configuration says: all of auth put together.
package guard

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"sync/atomic"

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
)

// A Told is called for everything that takes effect by itself whenever it changes, such as a file: err says why what it says now
// does not, and is nil when it does. The source is one of those of its kind: a key of the configuration, or an address. It is safe
// for concurrent use.
type Told func(what metrics.Reloadable, source string, err error)

// A Guard lets clients in, with the rules in force. It is safe for concurrent use.
type Guard struct {
	auth    configuration.Auth   // as it was at the start
	methods auth.Methods         // none when nobody can log in
	users   *htpasswd.File       // one of the methods, as the next two; nil: none
	token   *token.Authenticator // nil: none
	oidc    *oidc.Authenticator  // nil: none
	passes  *pass.Office         // before all of them; nil: none
	realm   string               // for Basic authentication
	holder  *policy.Holder       // of the policy in rules, with the groups; nil when everybody may do everything
	grouped bool                 // there is a file of groups; of one Apply at a time
	rules   atomic.Pointer[rules]
	mode    readOnlyMode
	told    Told

	authorities  *certificate.Authorities   // of clients' certificates; nil: none
	certificates *certificate.Authenticator // nil: certificates do not say who a client is
}

// Open reads the files that a configuration names, and fetches the key set of its token server. Errors name the key, or
// the line of a file, that is wrong.
func Open(ctx context.Context, c *configuration.Config, told Told) (*Guard, error) {
	r, err := newRules(c)
	if err != nil {
		return nil, err
	}
	g := &Guard{auth: c.Auth, realm: "Registry", told: told}
	if err := g.openMethods(ctx, c); err != nil {
		return nil, err
	}
	if err := g.openCertificates(c); err != nil {
		return nil, err
	}
	groups, err := g.openGroups(c)
	if err != nil {
		return nil, err
	}
	if c.Auth.None == nil && c.Auth.Configured() {
		g.holder, g.grouped = policy.NewHolder(r.policy, groups), groups != nil
	}
	g.install(r)
	return g, nil
}

func (g *Guard) openMethods(ctx context.Context, c *configuration.Config) (err error) {
	if g.token, err = g.openToken(ctx, c); err != nil {
		return err
	}
	if g.token != nil {
		g.methods = append(g.methods, g.token)
	}
	if g.oidc, err = g.openOIDC(c); err != nil {
		return err
	}
	if g.oidc != nil {
		g.methods = append(g.methods, g.oidc)
	}
	if users := c.Auth.HTPasswd; users != nil {
		g.realm = users.Realm
		g.users, err = htpasswd.Open(users.Path, &htpasswd.Options{OnError: g.failed(metrics.Users, "auth.htpasswd"), OnReload: g.reloaded(metrics.Users, "auth.htpasswd")})
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w; make it by `berth user add %s NAME`", err, users.Path)
		}
		if err != nil {
			return c.At("auth.htpasswd.path", err)
		}
		g.methods = append(g.methods, g.users) // last: it takes every password
	}
	return nil
}

const groupsFile = "authorization.groupsfile"

// openGroups returns nil when there is no file of groups.
func (g *Guard) openGroups(c *configuration.Config) (*reload.File[*policy.Groups], error) {
	path := c.Authorization.GroupsFile
	if path == "" {
		return nil, nil
	}
	groups, err := policy.OpenGroups(path, &reload.Options{OnError: g.failed(metrics.Groups, groupsFile), OnReload: g.reloaded(metrics.Groups, groupsFile)})
	if err != nil {
		return nil, c.At(groupsFile, err)
	}
	return groups, nil
}

func (g *Guard) failed(what metrics.Reloadable, source string) func(error) {
	return func(err error) { g.told(what, source, err) }
}

func (g *Guard) reloaded(what metrics.Reloadable, source string) func() {
	return func() { g.told(what, source, nil) }
}

// Realm is what clients are told to log in to with a password.
func (g *Guard) Realm() string { return g.realm }

// Authorities are those of clients' certificates; nil: none are asked for.
func (g *Guard) Authorities() *certificate.Authorities { return g.authorities }

// Immutable reports whether a tag of a repository may be made but not moved.
func (g *Guard) Immutable(repository, tag string) bool {
	return g.rules.Load().immutable.Immutable(repository, tag)
}

// CheckName says why no repository can be made by a name.
func (g *Guard) CheckName(repository string) error { return g.rules.Load().naming.Check(repository) }

// MayMoveTags reports whether one who pushes may also move the tags of a repository.
func (g *Guard) MayMoveTags(s *auth.Subject, repository string) bool {
	return g.holder == nil || g.holder.Policy().MayMoveTags(s, repository)
}

// Authenticator returns all ways to be known. A certificate counts where a request has no credentials of its own.
func (g *Guard) Authenticator() auth.Authenticator {
	var others auth.Authenticator // nil: nobody can log in
	switch {
	case g.passes != nil:
		others = g.passes
	case len(g.methods) > 0:
		others = g.methods
	}
	switch {
	case g.certificates != nil:
		return g.certificates.Before(others)
	case others != nil:
		return others
	case !g.auth.Configured():
		return auth.Local{}
	}
	return auth.Anonymous{}
}

// Authorizer returns the rules, which change with [Guard.Apply] and [Guard.SwitchReadOnly].
func (g *Guard) Authorizer() auth.Authorizer {
	if g.holder == nil {
		return auth.ReadOnly{On: g.ReadOnly, Next: auth.AllowAll{}}
	}
	return auth.ReadOnly{On: g.ReadOnly, Next: g.holder}
}

var errRestart = errors.New("of auth, only auth.anonymous changes without a restart, and not whether there is an auth section")

// Check says why [Guard.Apply] would fail, as far as that can be known without looking at the file of users.
func (g *Guard) Check(c *configuration.Config) error {
	_, _, err := g.prepare(c)
	return err
}

func (g *Guard) prepare(c *configuration.Config) (*rules, *reload.File[*policy.Groups], error) {
	r, err := newRules(c)
	if err != nil {
		return nil, nil, err
	}
	if !sameMethods(g.auth, c.Auth) {
		return nil, nil, c.At("auth", errRestart)
	}
	groups, err := g.openGroups(c)
	return r, groups, err
}

// Apply puts the rules of another configuration in force, or none of them. It is for one caller at a time.
func (g *Guard) Apply(c *configuration.Config) error {
	r, groups, err := g.prepare(c)
	if err != nil {
		return err
	}
	if g.users != nil {
		if err := g.users.Refresh(); err != nil {
			return c.At("auth.htpasswd.path", err)
		}
	}
	if g.holder != nil {
		g.holder.Replace(r.policy, groups)
		if g.grouped || groups != nil {
			g.told(metrics.Groups, groupsFile, nil) // those of the file that was read now, or none any more
		}
		g.grouped = groups != nil
	}
	g.install(r)
	return nil
}

func (g *Guard) install(r *rules) {
	g.rules.Store(r)
	g.mode.configure(r.readOnly)
}

func sameMethods(a, b configuration.Auth) bool {
	configured := a.Configured() == b.Configured()
	a.Anonymous, b.Anonymous = nil, nil
	return configured && reflect.DeepEqual(a, b)
}
