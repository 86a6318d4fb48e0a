package process

import (
	"context"
	"errors"

	"berth/auth"
	"berth/registry"
	"berth/registry/admin"
)

func (c *commands) removalRoutes() []admin.Route {
	ofName := func(r *admin.Request) ([]auth.Access, error) {
		return []auth.Access{{Action: auth.Delete, Repository: r.PathValue("name")}}, nil
	}
	everywhere := func(*admin.Request) ([]auth.Access, error) {
		return []auth.Access{{Action: auth.Admin}, {Action: auth.Delete}}, nil
	}
	return []admin.Route{
		{Method: "DELETE", Path: "/v1/repositories/{name...}", Access: ofName, Serve: c.removeRepository},
		{Method: "POST", Path: "/v1/purge", Access: everywhere, Serve: admin.Call(c.purge)},
	}
}

// checkDeletes refuses what removes content where the configuration allows none to be removed.
func (c *commands) checkDeletes() error {
	if c.config.Storage.Delete.Enabled {
		return nil
	}
	return admin.Refused(errors.New("deleting is disabled in this registry: set storage.delete.enabled and restart it"))
}

func (c *commands) removeRepository(r *admin.Request) (any, error) {
	if err := c.checkDeletes(); err != nil {
		return nil, err
	}
	name, err := registry.ParseName(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	result, err := c.registry.Repository(name).Remove(r.Context(), r.URL.Query().Get("force") == "true")
	if err != nil {
		return nil, err
	}
	c.log.WithField("repository", name.String()).Warn("a repository was deleted by a command")
	return admin.Removal(result), nil
}

func (c *commands) purge(ctx context.Context, in admin.PurgeRequest) (admin.Purged, error) {
	d, err := registry.ParseDigest(in.Digest)
	if err != nil {
		return admin.Purged{}, err
	}
	if in.Allow {
		return admin.Purged{Links: []string{}, Manifests: []string{}}, c.registry.AllowBlob(ctx, d)
	}
	if err := c.checkDeletes(); err != nil {
		return admin.Purged{}, err
	}
	result, err := c.registry.PurgeBlob(ctx, d, in.Refuse)
	if err != nil {
		return admin.Purged{}, err
	}
	c.log.WithField("digest", d.String()).Warn("a digest was purged by a command")
	return admin.Purged{Links: repositories(result.Links), Manifests: repositories(result.Manifests), Objects: result.Objects, Bytes: result.Bytes}, nil
}

func repositories(list []registry.Name) []string {
	texts := make([]string, len(list))
	for i, n := range list {
		texts[i] = n.String()
	}
	return texts
}
