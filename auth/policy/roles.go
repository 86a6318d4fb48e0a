package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"berth/auth"
)

// actions is a set of actions.
type actions uint8

const (
	pull actions = 1 << iota
	push
	pushNew
	remove
	list
	admin
	metrics

	every = pull | push | pushNew | remove | list | admin | metrics
	// registryWide are the actions that are about the registry as a whole alone.
	registryWide = metrics
)

// setOf returns the set of one action as it is granted; the empty one for an action that there is not.
func setOf(a auth.Action) actions {
	switch a {
	case auth.Pull:
		return pull
	case auth.Push:
		return push
	case auth.PushNew:
		return pushNew
	case auth.Delete:
		return remove
	case auth.List:
		return list
	case auth.Admin:
		return admin
	case auth.Metrics:
		return metrics
	case auth.Every:
		return every
	}
	return 0
}

// sufficient returns the actions any of which, when granted, allows the action that is asked for; none for one that
// there is not.
func sufficient(a auth.Action) actions {
	switch a {
	case auth.Push, auth.PushNew:
		return push | pushNew
	case auth.Every:
		return 0
	}
	return setOf(a)
}

// A role is a set of actions under a name.
type role struct {
	name    string
	actions actions
	// project makes a binding's patterns name projects: the role holds for all that is below them.
	project bool
}

// builtin returns the roles that there are without being configured, with the names and the meaning that they have in
// OpenShift's registry. What it tells apart and a registry without image streams does not, is one here.
func builtin() map[string]role {
	roles := map[string]role{}
	for _, r := range []role{
		{name: "registry-viewer", actions: pull | list},
		{name: "system:image-puller", actions: pull | list},
		{name: "registry-editor", actions: pull | push | list},
		{name: "system:image-pusher", actions: pull | push},
		{name: "system:image-builder", actions: pull | push, project: true},
		{name: "system:image-pruner", actions: remove | pull | list},
		{name: "registry-admin", actions: every},
		{name: "prometheus-scraper", actions: metrics},
	} {
		roles[r.name] = r
	}
	return roles
}

// parseRoles adds configured roles, which are lists of actions, to the built-in ones.
func parseRoles(own map[string][]auth.Action) (map[string]role, error) {
	roles := builtin()
	for _, name := range slices.Sorted(maps.Keys(own)) {
		if _, ok := roles[name]; ok {
			return nil, fmt.Errorf("the role %q is built in and cannot be another one", name)
		}
		if name == "" || strings.TrimSpace(name) != name {
			return nil, fmt.Errorf("%q is no name for a role", name)
		}
		set, err := parseActions(own[name])
		if err != nil {
			return nil, fmt.Errorf("the role %q: %w", name, err)
		}
		roles[name] = role{name: name, actions: set}
	}
	return roles, nil
}

func parseActions(names []auth.Action) (actions, error) {
	var set actions
	for _, a := range names {
		one := setOf(a)
		if one == 0 || a == auth.Every {
			return 0, fmt.Errorf("there is no action %q; there are pull, push, push-new, delete, list, admin and metrics", a)
		}
		set |= one
	}
	if set == 0 {
		return 0, fmt.Errorf("no actions are given")
	}
	return set, nil
}
