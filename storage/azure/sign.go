package azure

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"

	"berth/storage/remote"
)

// A signer makes the query by which a URL may be read until the time that is in the values.
type signer interface {
	sign(ctx context.Context, values sas.BlobSignatureValues) (sas.QueryParameters, error)
}

// SignedURL implements [storage.Signer], by a shared access signature. With the key of the account it asks nobody anything;
// otherwise it signs by a user delegation key, which it gets from the service about once a day.
func (d *Driver) SignedURL(ctx context.Context, key string, expiry time.Duration) (string, error) {
	if err := d.check(ctx, "sign", key); err != nil {
		return "", err
	}
	values := sas.BlobSignatureValues{
		Protocol: sas.ProtocolHTTPS, ExpiryTime: time.Now().Add(expiry).UTC(), ContainerName: d.o.Container, BlobName: d.name(key),
		Permissions: (&sas.BlobPermissions{Read: true}).String(),
	}
	if strings.HasPrefix(d.o.Endpoint, "http://") {
		values.Protocol = sas.ProtocolHTTPSandHTTP
	}
	query, err := d.sign.sign(ctx, values)
	if errors.Is(err, errors.ErrUnsupported) {
		return "", err
	}
	if err != nil {
		return "", judge(err).Wrap(remote.Call{Operation: "sign", Key: key}, err)
	}
	return d.blob(key).URL() + "?" + query.Encode(), nil
}

// sharedKey signs by the key of the account.
type sharedKey struct{ key *azblob.SharedKeyCredential }

func (s sharedKey) sign(_ context.Context, values sas.BlobSignatureValues) (sas.QueryParameters, error) {
	return values.SignWithSharedKey(s.key)
}

const (
	// delegationLife is how long a user delegation key is good, at least.
	delegationLife = 24 * time.Hour
	// delegationMost is how long the service lets one be good.
	delegationMost = 7 * 24 * time.Hour
	// delegationLead is how long before now one begins, since the clock of the service may be behind.
	delegationLead = 15 * time.Minute
	// delegationRest is how long it must be good beyond the URLs that it signs.
	delegationRest = time.Hour
	// longestURL is the life of a URL that such keys can always sign.
	longestURL = delegationMost - delegationLead - 2*delegationRest
)

// A delegation signs by a key that the service gives to whoever has a token.
type delegation struct {
	client *service.Client
	err    error // of making the client

	mu     sync.Mutex
	key    *service.UserDelegationCredential
	until  time.Time
	denied bool // the identity may not have such keys
}

// newDelegation asks for keys under the usual name of the account, since the library takes the account from the host, and
// sends that to the endpoint.
func newDelegation(o Options, token azcore.TokenCredential, options azcore.ClientOptions) *delegation {
	options.Transport = elsewhere{options.Transport, o.Endpoint}
	client, err := service.NewClient("https://"+o.Account+".blob."+o.Realm+"/", token, &service.ClientOptions{ClientOptions: options})
	return &delegation{client: client, err: err}
}

func (s *delegation) sign(ctx context.Context, values sas.BlobSignatureValues) (sas.QueryParameters, error) {
	if longest := time.Now().Add(longestURL).UTC(); values.ExpiryTime.After(longest) {
		values.ExpiryTime = longest
	}
	key, err := s.current(ctx, values.ExpiryTime)
	if err != nil {
		return sas.QueryParameters{}, err
	}
	return values.SignWithUserDelegation(key)
}

// current returns a key that is good until a time. One that nearly ends is replaced; if that fails, it serves on.
func (s *delegation) current(ctx context.Context, until time.Time) (*service.UserDelegationCredential, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.denied {
		return nil, errors.Join(s.err, errors.ErrUnsupported)
	}
	if s.key != nil && until.Add(delegationRest).Before(s.until) {
		return s.key, nil
	}
	now := time.Now().UTC()
	end := now.Add(max(delegationLife, until.Sub(now)+2*delegationRest))
	start, expiry := now.Add(-delegationLead).Format(sas.TimeFormat), end.Format(sas.TimeFormat)
	limited, cancel := context.WithTimeout(ctx, remote.ProbeWithin)
	defer cancel()
	key, err := s.client.GetUserDelegationCredential(limited, service.KeyInfo{Start: &start, Expiry: &expiry}, nil)
	if _, status := code(err); status == http.StatusForbidden {
		s.denied = true
		return nil, fmt.Errorf("%w: %v", errors.ErrUnsupported, err)
	}
	if err != nil && s.key != nil && until.Before(s.until) {
		return s.key, nil
	}
	if err == nil {
		s.key, s.until = key, end
	}
	return key, err
}
