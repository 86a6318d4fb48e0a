package azure

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"berth/storage/remote"
)

// A Kind says how Berth proves who it is.
type Kind string

// The kinds of credentials.
const (
	SharedKey        Kind = "shared_key"          // the key of the account
	ClientSecret     Kind = "client_secret"       // an application of Entra ID and its secret
	ManagedIdentity  Kind = "managed_identity"    // of the machine
	WorkloadIdentity Kind = "workload_identity"   // of a Kubernetes service account
	Default          Kind = "default_credentials" // by the AZURE_* variables, or else that of the machine
)

// Credentials say who asks. The zero Kind is SharedKey with a Key, Default without one.
type Credentials struct {
	Kind     Kind
	Key      string // of the account, in base64
	TenantID string
	ClientID string // of an application, or of an identity
	Secret   string // of an application
	// Token replaces all of them. It is for tests.
	Token azcore.TokenCredential
}

// kind is how Berth proves who it is.
func (c Credentials) kind() Kind {
	switch {
	case c.Kind == "" && c.Key != "":
		return SharedKey
	case c.Kind == "":
		return Default
	}
	return c.Kind
}

// newClient makes a client of the container, and what signs URLs for it.
func newClient(o Options) (*container.Client, signer, error) {
	network := remote.Network{Section: "storage.azure", SkipVerify: o.TLS.SkipVerify, CA: o.TLS.CA, Wrap: o.Transport}
	transport, err := network.Client()
	if err != nil {
		return nil, nil, err
	}
	options := azcore.ClientOptions{
		Transport: transport, Telemetry: policy.TelemetryOptions{ApplicationID: "berth"},
		Retry: policy.RetryOptions{MaxRetries: -1}, // retries are those of [remote.Service]
	}
	place := o.Endpoint + "/" + o.Container
	if o.Credentials.Token == nil && o.Credentials.kind() == SharedKey {
		key, err := azblob.NewSharedKeyCredential(o.Account, o.Credentials.Key)
		if err != nil {
			return nil, nil, errors.New("storage.azure.accountkey: is not the key of an account, which is in base64")
		}
		client, err := container.NewClientWithSharedKeyCredential(place, key, &container.ClientOptions{ClientOptions: options})
		return client, sharedKey{key}, err
	}
	if !strings.HasPrefix(o.Endpoint, "https://") {
		return nil, nil, errors.New("storage.azure.serviceurl: must be https, since whoever hears a token can use it")
	}
	token, err := newToken(o)
	if err != nil {
		return nil, nil, fmt.Errorf("storage.azure.credentials: %w", err)
	}
	client, err := container.NewClient(place, token, &container.ClientOptions{ClientOptions: options})
	return client, newDelegation(o, token, options), err
}

// newToken returns what gets tokens of Entra ID. It trusts the authorities of the system, whatever the service needs.
func newToken(o Options) (azcore.TokenCredential, error) {
	c := o.Credentials
	if c.Token != nil {
		return c.Token, nil
	}
	transport, err := remote.Network{Section: "storage.azure", Wrap: o.Transport}.Client()
	if err != nil {
		return nil, err
	}
	options := azcore.ClientOptions{Transport: transport, Cloud: cloudOf(o.Realm)}
	kind := c.kind()
	if kind == Default {
		kind = fromEnvironment()
	}
	switch kind {
	case ClientSecret:
		return azidentity.NewClientSecretCredential(c.TenantID, c.ClientID, c.Secret, &azidentity.ClientSecretCredentialOptions{ClientOptions: options})
	case WorkloadIdentity:
		return azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{ClientOptions: options, ClientID: c.ClientID, TenantID: c.TenantID})
	case Default:
		return azidentity.NewEnvironmentCredential(&azidentity.EnvironmentCredentialOptions{ClientOptions: options})
	}
	identity := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: options}
	if id := cmp.Or(c.ClientID, os.Getenv("AZURE_CLIENT_ID")); id != "" {
		identity.ID = azidentity.ClientID(id)
	}
	return azidentity.NewManagedIdentityCredential(identity)
}

// fromEnvironment chooses among credentials by the AZURE_* variables; Default means those of the variables themselves.
func fromEnvironment() Kind {
	switch {
	case os.Getenv("AZURE_FEDERATED_TOKEN_FILE") != "":
		return WorkloadIdentity
	case os.Getenv("AZURE_CLIENT_SECRET") != "", os.Getenv("AZURE_CLIENT_CERTIFICATE_PATH") != "":
		return Default
	}
	return ManagedIdentity
}

// cloudOf tells where the tokens of a cloud come from. AZURE_AUTHORITY_HOST is heeded where nothing is told.
func cloudOf(realm string) cloud.Configuration {
	switch {
	case os.Getenv("AZURE_AUTHORITY_HOST") != "":
		return cloud.Configuration{}
	case realm == "core.chinacloudapi.cn":
		return cloud.AzureChina
	case realm == "core.usgovcloudapi.net":
		return cloud.AzureGovernment
	}
	return cloud.Configuration{}
}

// elsewhere sends requests that name one service to another place.
type elsewhere struct {
	next     policy.Transporter
	endpoint string
}

// Do implements [policy.Transporter].
func (e elsewhere) Do(r *http.Request) (*http.Response, error) {
	u, err := r.URL.Parse(e.endpoint + r.URL.Path)
	if err != nil {
		return nil, err
	}
	u.RawQuery = r.URL.RawQuery
	moved := r.Clone(r.Context())
	moved.URL, moved.Host = u, u.Host
	return e.next.Do(moved)
}
