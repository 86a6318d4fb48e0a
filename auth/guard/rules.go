package guard

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"berth/auth"
	"berth/auth/policy"
	"berth/configuration"
)

// rules are what a configuration says about who may do what. They never change; a reload puts others in their place.
type rules struct {
	policy    *policy.Policy
	immutable *policy.ImmutableTags
	naming    policy.Naming
	readOnly  bool

	sendForPasses bool // clients get passes at the token endpoint
}

// newRules compiles the rules of a configuration. The error joins all that is wrong with them, each with its key and line.
func newRules(c *configuration.Config) (*rules, error) {
	z := c.Authorization
	err := errors.Join(checkActions(c), checkBindings(c))
	r := &rules{
		naming:   policy.Naming{MaxDepth: z.Naming.MaxDepth, ProjectName: z.Naming.ProjectName},
		readOnly: c.Storage.Maintenance.ReadOnly.Enabled, sendForPasses: c.SendsToTokenEndpoint(),
	}
	var tags []policy.TagRule
	for i, t := range z.ImmutableTags {
		rule := policy.TagRule{Repositories: t.Repositories, Tags: t.Tags}
		if _, wrong := policy.NewImmutableTags(rule); wrong != nil {
			err = errors.Join(err, c.At(fmt.Sprintf("authorization.immutabletags[%d]", i), errors.Unwrap(wrong)))
		}
		tags = append(tags, rule)
	}
	if err != nil {
		return nil, err
	}
	if r.immutable, err = policy.NewImmutableTags(tags...); err != nil {
		return nil, err
	}
	var bindings []policy.Binding
	for _, b := range z.Bindings {
		bindings = append(bindings, policy.Binding(b))
	}
	r.policy, err = policy.New(policy.Config{Roles: ownRoles(c), Bindings: bindings, Anonymous: actions(c.Auth.Anonymous)})
	return r, err
}

// CheckRules joins all that is wrong with the rules of a configuration. It reads no files.
func CheckRules(c *configuration.Config) error {
	_, err := newRules(c)
	return err
}

// Decide tells what a Guard of a configuration would decide, and why. No users are looked up.
func Decide(c *configuration.Config, s auth.Subject, want auth.Access) (policy.Decision, error) {
	if c.Storage.Maintenance.ReadOnly.Enabled && (want.Action == auth.Push || want.Action == auth.Delete) {
		return policy.Decision{Reason: auth.ErrReadOnly.Error()}, nil
	}
	if c.Auth.None != nil || !c.Auth.Configured() {
		return policy.Decision{Allowed: true, Reason: "nobody is authenticated here, so that everybody may do everything"}, nil
	}
	r, err := newRules(c)
	if err != nil {
		return policy.Decision{}, err
	}
	if path := c.Authorization.GroupsFile; path != "" {
		data, err := os.ReadFile(path)
		if err != nil {
			return policy.Decision{}, c.At(groupsFile, err)
		}
		groups, err := policy.ParseGroups(path, data)
		if err != nil {
			return policy.Decision{}, c.At(groupsFile, err)
		}
		r.policy = r.policy.With(groups)
	}
	return r.policy.Explain(s, want), nil
}

// checkActions checks the actions of anonymous and of the configured roles one by one, so that errors can name the line.
func checkActions(c *configuration.Config) (err error) {
	for i, action := range c.Auth.Anonymous {
		if _, wrong := policy.New(policy.Config{Anonymous: []auth.Action{auth.Action(action)}}); wrong != nil {
			err = errors.Join(err, c.At(fmt.Sprintf("auth.anonymous[%d]", i), errors.Unwrap(wrong)))
		}
	}
	roles := ownRoles(c)
	for _, name := range slices.Sorted(maps.Keys(roles)) {
		if _, wrong := policy.New(policy.Config{Roles: map[string][]auth.Action{name: roles[name]}}); wrong != nil {
			err = errors.Join(err, c.At("authorization.roles."+name, wrong))
		}
	}
	return err
}

// checkBindings checks each binding with the roles that are in order.
func checkBindings(c *configuration.Config) (err error) {
	roles := ownRoles(c)
	maps.DeleteFunc(roles, func(name string, list []auth.Action) bool {
		_, wrong := policy.New(policy.Config{Roles: map[string][]auth.Action{name: list}})
		return wrong != nil
	})
	for i, b := range c.Authorization.Bindings {
		if _, wrong := policy.New(policy.Config{Roles: roles, Bindings: []policy.Binding{policy.Binding(b)}}); wrong != nil {
			err = errors.Join(err, c.At(fmt.Sprintf("authorization.bindings[%d]", i), errors.Unwrap(wrong)))
		}
	}
	return err
}

func ownRoles(c *configuration.Config) map[string][]auth.Action {
	roles := make(map[string][]auth.Action)
	for name, list := range c.Authorization.Roles {
		roles[name] = actions(list)
	}
	return roles
}

func actions(names []string) (list []auth.Action) {
	for _, name := range names {
		list = append(list, auth.Action(name))
	}
	return list
}
