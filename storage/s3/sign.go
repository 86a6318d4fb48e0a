package s3

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/cloudfront/sign"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"berth/storage/remote"
)

// CloudFront makes signed URLs lead to a distribution in front of the bucket.
type CloudFront struct {
	BaseURL    string        // of the distribution: scheme, host and perhaps a path
	PrivateKey string        // a PEM file
	KeyPairID  string        // of that key
	Duration   time.Duration // how long a URL is good; 0 means as long as the caller of SignedURL says
}

// signer reads the key.
func (c CloudFront) signer() (*sign.URLSigner, error) {
	pem, err := os.ReadFile(c.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("storage.s3.cloudfront.privatekey: %w", err)
	}
	var key crypto.Signer
	if key, err = sign.LoadPEMPrivKey(bytes.NewReader(pem)); err != nil {
		key, err = sign.LoadPEMPrivKeyPKCS8AsSigner(bytes.NewReader(pem))
	}
	if err != nil {
		return nil, fmt.Errorf("storage.s3.cloudfront.privatekey: %s has no private key in PEM", c.PrivateKey)
	}
	return sign.NewURLSigner(c.KeyPairID, key), nil
}

// newPresigner makes URLs at an endpoint, that of the client if it is "". What says which endpoint of AWS to use is about the other.
func newPresigner(client *s3.Client, endpoint string) *s3.PresignClient {
	if endpoint == "" {
		return s3.NewPresignClient(client)
	}
	return s3.NewPresignClient(client, s3.WithPresignClientFromClientOptions(func(o *s3.Options) {
		o.BaseEndpoint, o.UseAccelerate = &endpoint, false
		o.EndpointOptions.UseDualStackEndpoint, o.EndpointOptions.UseFIPSEndpoint = aws.DualStackEndpointStateDisabled, aws.FIPSEndpointStateDisabled
	}))
}

// SignedURL implements [storage.Signer], by CloudFront if that is configured. It asks nobody anything, except for new
// credentials when the old ones end.
func (d *Driver) SignedURL(ctx context.Context, key string, expiry time.Duration) (string, error) {
	if err := check(ctx, "sign", key); err != nil {
		return "", err
	}
	if d.cdn != nil {
		c := d.o.CloudFront
		signed, err := d.cdn.Sign(strings.TrimSuffix(c.BaseURL, "/")+"/"+d.name(key), time.Now().Add(cmp.Or(c.Duration, expiry)))
		if err != nil {
			return "", fmt.Errorf("sign %s: %w", key, err)
		}
		return signed, nil
	}
	in := &s3.GetObjectInput{Bucket: &d.o.Bucket, Key: aws.String(d.name(key))}
	request, err := d.presign.PresignGetObject(ctx, in, s3.WithPresignExpires(expiry))
	if err != nil {
		return "", judge(err).Wrap(remote.Call{Operation: "sign", Key: key}, err)
	}
	return request.URL, nil
}
