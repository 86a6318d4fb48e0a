//go:build !noazure

package open

import (
	"context"

	"berth/configuration"
	"berth/storage/azure"
)

func openAzure(ctx context.Context, c configuration.Storage, warn func(string)) (closer, error) {
	a := c.Azure
	o := azure.Options{
		Account: a.AccountName, Container: a.Container, Realm: a.Realm, Endpoint: a.ServiceURL, Root: a.Folder(),
		Credentials: azure.Credentials{Kind: azure.Kind(a.Kind()), Key: a.AccountKey.Reveal()},
		TLS:         azure.TLS{SkipVerify: a.SkipVerify, CA: a.RootCA},
		PartSize:    int64(a.ChunkSize), Parallel: a.UploadConcurrency, Warn: warn,
	}
	if who := a.Credentials; who != nil {
		o.Credentials.TenantID, o.Credentials.ClientID, o.Credentials.Secret = who.TenantID, who.ClientID, who.Secret.Reveal()
	}
	return azure.Open(ctx, o)
}
