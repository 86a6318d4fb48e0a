package gcs

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
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

	mu     sync.Mutex
	denied time.Time // when IAM last refused to sign
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
// needs the permission iam.serviceAccounts.signBlob. Where IAM refuses that is errors.ErrUnsupported, and it is not asked again for
// some minutes.
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

// denialHolds is how long a refusal of IAM is believed.
const denialHolds = 5 * time.Minute

// ask has IAM sign a text.
func (s *signer) ask(ctx context.Context, text []byte) (signature []byte, err error) {
	if s.isDenied() {
		return nil, fmt.Errorf("sign as %s: IAM refused that a moment ago: %w", s.email, errors.ErrUnsupported)
	}
	in := &iamcredentials.SignBlobRequest{Payload: base64.StdEncoding.EncodeToString(text)}
	var refusal error
	err = s.calls.Do(ctx, remote.Call{Operation: "sign as", Key: s.email}, func(ctx context.Context) error {
		out, err := s.iam.Projects.ServiceAccounts.SignBlob("projects/-/serviceAccounts/"+s.email, in).Context(ctx).Do()
		if err != nil {
			if isDenial(err) {
				refusal = err
			}
			return err
		}
		signature, err = base64.StdEncoding.DecodeString(out.SignedBlob)
		return err
	})
	if refusal != nil {
		s.deny()
		return nil, fmt.Errorf("sign as %s: %w: %v", s.email, errors.ErrUnsupported, refusal)
	}
	return signature, err
}

// isDenial reports whether IAM will not sign, rather than not now: the permission is missing or the API is off (403), there is no such
// account (404), or its name is not one, as that of a workload without a service account (400).
func isDenial(err error) bool {
	status, _ := answered(err)
	return !isThrottled(err) && (status == http.StatusForbidden || status == http.StatusNotFound || status == http.StatusBadRequest)
}

func (s *signer) isDenied() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(s.denied) < denialHolds
}

func (s *signer) deny() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denied = time.Now()
}
