//go:build !nogcs

package open

import (
	"context"

	"berth/configuration"
	"berth/storage/gcs"
)

func openGCS(ctx context.Context, c configuration.Storage, warn func(string)) (closer, error) {
	g := c.GCS
	return gcs.Open(ctx, gcs.Options{
		Bucket: g.Bucket, Endpoint: g.Origin(), Root: g.Folder(),
		Credentials: gcs.Credentials{File: g.KeyPath(), JSON: g.KeyJSON(), Anonymous: g.Anonymous, Account: g.ServiceAccount},
		SkipVerify:  g.SkipVerify, CA: g.RootCA, Proxy: g.Proxy.Reveal(), UserAgent: g.UserAgent,
		Project: g.ProjectID, KeyID: g.KeyID, ChunkSize: int64(g.ChunkSize), Warn: warn,
	})
}
