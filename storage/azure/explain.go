package azure

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"

	"berth/storage/remote"
)

// errNotAzure says that what answers is something else.
var errNotAzure = errors.New("the answer is not that of Blob Storage")

// brief makes one line of an error of the library, which is a page.
func brief(err error) error {
	var response *azcore.ResponseError
	if errors.As(err, &response) {
		return fmt.Errorf("status %d %s", response.StatusCode, response.ErrorCode)
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return errors.New(line)
}

// explain names the key of the configuration that an error of the probe is about.
func (p *probe) explain(err error) error {
	if err == nil {
		return nil
	}
	switch name, status := code(err); name {
	case bloberror.ContainerNotFound, bloberror.ContainerBeingDeleted, bloberror.ContainerDisabled:
		return fmt.Errorf("storage.azure.container: there is no container of this name%s: %s", p.place(), name)
	case bloberror.InvalidResourceName:
		return errors.New("storage.azure.container: the service says that no container can have this name")
	case bloberror.AccountIsDisabled:
		return errors.New("storage.azure.accountname: the account is disabled")
	case bloberror.AuthenticationFailed, bloberror.InvalidAuthenticationInfo:
		return fmt.Errorf("%s: the service does not take it; or the clock of this machine is wrong: %s", p.credentialKey(), name)
	case "KeyBasedAuthenticationNotPermitted":
		return errors.New("storage.azure.accountkey: the account does not allow keys; remove it and use storage.azure.credentials")
	case bloberror.AuthorizationPermissionMismatch, bloberror.InsufficientAccountPermissions:
		return fmt.Errorf("storage.azure.credentials: the role Storage Blob Data Contributor on the container is missing: %s", name)
	case bloberror.AuthorizationFailure, bloberror.AuthorizationSourceIPMismatch:
		return fmt.Errorf("%s: it is not of storage.azure.accountname, or the network rules of the account do not let this machine in: %s", p.credentialKey(), name)
	default:
		return p.explainStatus(err, name, status)
	}
}

// explainStatus is explain for what no code tells.
func (p *probe) explainStatus(err error, name bloberror.Code, status int) error {
	switch {
	case isLogin(err):
		return p.explainLogin(err)
	case errors.Is(err, errNotAzure), status != 0 && (name == "" || status/100 == 2):
		return fmt.Errorf("storage.azure.%s: what answers%s is not Blob Storage: %w", p.whereKey(), p.place(), brief(err))
	case status != 0:
		return fmt.Errorf("storage.azure: the service refuses: %w", brief(err))
	}
	where := "storage.azure." + p.whereKey()
	return remote.Address{Key: where, Scheme: where, CA: "storage.azure.rootca", Place: p.place()}.Unreachable(err)
}

// place says where the container was looked for.
func (p *probe) place() string { return " at " + p.o.Endpoint }

// whereKey is the key that says so.
func (p *probe) whereKey() string {
	if p.o.Endpoint != "https://"+p.o.Account+".blob."+p.o.Realm {
		return "serviceurl"
	}
	return "accountname"
}

// credentialKey is the key of what proves who Berth is.
func (p *probe) credentialKey() string {
	if p.o.Credentials.kind() == SharedKey {
		return "storage.azure.accountkey"
	}
	return "storage.azure.credentials"
}

// isLogin reports whether an error is about getting a token.
func isLogin(err error) bool {
	var failed *azidentity.AuthenticationFailedError
	return errors.As(err, &failed)
}

// The codes by which Entra ID says what is wrong (https://learn.microsoft.com/entra/identity-platform/reference-error-codes).
var (
	secretCodes = []int{7000215, 7000222, 7000218}
	clientCodes = []int{700016, 900382, 7000112}
	tenantCodes = []int{90002, 900023, 900021}
)

// explainLogin names the key that an error of a token is about.
func (p *probe) explainLogin(err error) error {
	const section = "storage.azure.credentials"
	codes := loginCodes(err)
	has := func(known []int) bool {
		return slices.ContainsFunc(codes, func(code int) bool { return slices.Contains(known, code) })
	}
	switch {
	case has(secretCodes):
		return fmt.Errorf("%s.secret: it is wrong or has ended (AADSTS%d)", section, codes[0])
	case has(clientCodes):
		return fmt.Errorf("%s.clientid: there is no such application (AADSTS%d)", section, codes[0])
	case has(tenantCodes):
		return fmt.Errorf("%s.tenantid: there is no such tenant (AADSTS%d)", section, codes[0])
	case len(codes) > 0:
		return fmt.Errorf("%s: Entra ID refuses (AADSTS%d)", section, codes[0])
	case p.o.Credentials.Kind == "":
		return fmt.Errorf("storage.azure.accountkey: there is none, and no identity was found in its place: %w", brief(err))
	}
	return fmt.Errorf("%s: no token was had: %w", section, brief(err))
}

// loginCodes are those of an answer of Entra ID.
func loginCodes(err error) []int {
	var failed *azidentity.AuthenticationFailedError
	if !errors.As(err, &failed) || failed.RawResponse == nil || failed.RawResponse.StatusCode == http.StatusOK {
		return nil
	}
	var answer struct {
		Codes []int `json:"error_codes"`
	}
	if json.NewDecoder(io.LimitReader(failed.RawResponse.Body, 64<<10)).Decode(&answer) != nil {
		return nil
	}
	return answer.Codes
}
