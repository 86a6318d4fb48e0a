package token

import (
	"encoding/json"
	"fmt"

	"berth/auth"
	"berth/auth/jwt"
)

// maxGrants bounds what one token is for: each authorization goes through all of it.
const maxGrants = 512

// subject maps the claims of a verified token. A token without a name is somebody without a name, and its Grants are never
// nil: it may do nothing that it is not for.
func subject(claims jwt.Claims) (auth.Subject, error) {
	s := auth.Subject{Grants: []auth.Access{}}
	if _, ok := claims["sub"]; ok {
		if s.Name, ok = claims.Text("sub"); !ok || s.Name != "" && !auth.Printable(s.Name) {
			return auth.Subject{}, fmt.Errorf("%w: its subject is not a name", auth.ErrToken)
		}
	}
	var scope []struct {
		Type, Name string
		Actions    []string
	}
	if raw, ok := claims["access"]; ok && json.Unmarshal(raw, &scope) != nil {
		return auth.Subject{}, fmt.Errorf("%w: its access claim is malformed", auth.ErrToken)
	}
	for _, resource := range scope {
		for _, action := range resource.Actions {
			if access, ok := grant(resource.Type, resource.Name, action); ok {
				s.Grants = append(s.Grants, access)
			}
		}
		if len(s.Grants) > maxGrants {
			return auth.Subject{}, fmt.Errorf("%w: it is for more than %d accesses", auth.ErrToken, maxGrants)
		}
	}
	return s, nil
}

// grant returns what an action on a resource is here; false for what has no meaning here. A grant without a repository is
// about the registry as a whole, so that a repository must have a name. Of the registry only the catalog is granted: token
// servers that grant by patterns mean no more by them.
func grant(kind, name, action string) (auth.Access, bool) {
	switch a := auth.Action(action); {
	case kind == "registry" && name == "catalog" && a == auth.Every:
		return auth.Access{Action: auth.List}, true
	case kind != "repository" || name == "":
		return auth.Access{}, false
	case a == auth.Pull || a == auth.Push || a == auth.Delete || a == auth.Every:
		return auth.Access{Action: a, Repository: name}, true
	}
	return auth.Access{}, false
}
