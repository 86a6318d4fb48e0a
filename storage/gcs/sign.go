package gcs

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"cloud.google.com/go/compute/metadata"
	gcs "cloud.google.com/go/storage"
	"google.golang.org/api/iamcredentials/v1"
	"google.golang.org/api/option"

	"berth/storage/remote"
)

// A signer makes signed URLs: by a private key, or by asking the service that has the key of a service account.
type signer struct {
	email string
	key   []byte // in PEM; nil: asks
	iam   *iamcredentials.Service
	calls remote.Service
}

// newSigner returns nil where nobody can sign: for nobody, for a person, and where the name of a service account is not known.
func newSigner(ctx context.Context, o Options, a access) (*signer, error) {
	s := &signer{email: o.Credentials.Account}
	s.calls.Judge = judge
	switch {
	case a.creds == nil:
		return nil, nil
	case s.email == "":
		s.email = a.key.email()
	}
	if a.key.PrivateKey != "" && s.email == a.key.Email {
		s.key = []byte(a.key.PrivateKey)
		return s, nil
	}
	if s.email == "" && len(a.creds.JSON()) == 0 { // those of the machine
		s.email, _ = metadata.EmailWithContext(ctx, "default")
	}
	if s.email == "" {
		return nil, nil
	}
	var err error
	s.iam, err = iamcredentials.NewService(context.WithoutCancel(ctx), option.WithHTTPClient(a.client))
	if err != nil {
		return nil, fmt.Errorf("storage.gcs.serviceaccount: %w", err)
	}
	return s, nil
}

// maxExpiry is the longest life of a signed URL that the service takes.
const maxExpiry = 7 * 24 * time.Hour

// SignedURL implements [storage.Signer]. With a private key it asks nobody anything; without one it is one request to IAM, which
// needs the permission iam.serviceAccounts.signBlob.
func (d *Driver) SignedURL(ctx context.Context, key string, expiry time.Duration) (string, error) {
	if err := check(ctx, "sign", key); err != nil {
		return "", err
	}
	if d.signer == nil {
		return "", fmt.Errorf("sign %s: the credentials have no key and no service account: %w", key, errors.ErrUnsupported)
	}
	at, err := url.Parse(endpoint(d.o))
	if err != nil {
		return "", fmt.Errorf("sign %s: %w", key, err)
	}
	options := &gcs.SignedURLOptions{
		GoogleAccessID: d.signer.email, PrivateKey: d.signer.key, Method: http.MethodGet, Expires: time.Now().Add(min(expiry, maxExpiry)),
		Scheme: gcs.SigningSchemeV4, Hostname: at.Host, Insecure: strings.EqualFold(at.Scheme, "http"),
	}
	if d.signer.key == nil {
		options.SignBytes = func(text []byte) ([]byte, error) { return d.signer.ask(ctx, text) }
	}
	if d.o.Project != "" && d.paid {
		options.QueryParameters = url.Values{"userProject": {d.o.Project}}
	}
	signed, err := d.bucket.SignedURL(d.name(key), options)
	if err != nil {
		return "", fmt.Errorf("sign %s: %w", key, err)
	}
	return signed, nil
}

// ask has IAM sign a text.
func (s *signer) ask(ctx context.Context, text []byte) (signature []byte, err error) {
	in := &iamcredentials.SignBlobRequest{Payload: base64.StdEncoding.EncodeToString(text)}
	err = s.calls.Do(ctx, remote.Call{Operation: "sign as", Key: s.email}, func(ctx context.Context) error {
		out, err := s.iam.Projects.ServiceAccounts.SignBlob("projects/-/serviceAccounts/"+s.email, in).Context(ctx).Do()
		if err != nil {
			return err
		}
		signature, err = base64.StdEncoding.DecodeString(out.SignedBlob)
		return err
	})
	return signature, err
}
