//go:build !nos3

package open

import (
	"context"
	"strings"

	"berth/configuration"
	"berth/storage/s3"
)

func openS3(ctx context.Context, c configuration.Storage, warn func(string)) (closer, error) {
	return s3.Open(ctx, s3Options(c, warn))
}

// s3Options are those of the configuration.
func s3Options(c configuration.Storage, warn func(string)) s3.Options {
	o := s3.Options{
		Bucket: c.S3.Bucket, Region: c.S3.Region, Endpoint: c.S3.Endpoint(), RedirectEndpoint: c.S3.Redirects(), Root: c.S3.Folder(),
		Credentials: s3.Credentials{
			AccessKey: c.S3.AccessKey.Reveal(), SecretKey: c.S3.SecretKey.Reveal(), SessionToken: c.S3.SessionToken.Reveal(),
			File: c.S3.CredentialsConfigPath,
		},
		TLS: s3.TLS{SkipVerify: c.S3.SkipVerify, CA: c.S3.RootCA}, Proxy: c.S3.Proxy.Reveal(),
		PathStyle: c.S3.ForcePathStyle || c.S3.RegionEndpoint != "" && !c.S3.VirtualHostedStyle,
		DualStack: c.S3.UseDualStack, Accelerate: c.S3.Accelerate, FIPS: c.S3.UseFIPSEndpoint, Checksums: c.S3.Checksums,
		Encrypt: c.S3.Encrypt, KeyID: c.S3.KeyID, UserAgent: c.S3.UserAgent,
		PartSize: int64(c.S3.ChunkSize), Parallel: c.S3.UploadConcurrency, Replicas: c.Replicas, Conditional: s3.Trial(c.S3.ConditionalDelete),
		Warn: warn,
	}
	if class := c.S3.StorageClass; !strings.EqualFold(class, "NONE") {
		o.StorageClass = strings.ToUpper(class)
	}
	if cdn := c.S3.CloudFront; cdn != nil {
		o.CloudFront = &s3.CloudFront{BaseURL: cdn.BaseURL, PrivateKey: cdn.PrivateKey, KeyPairID: cdn.KeyPairID, Duration: cdn.Duration}
	}
	return o
}
