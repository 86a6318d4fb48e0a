package configuration

import (
	"strings"

	"berth/configuration/strict"
)

// Azure is the section storage.azure.
type Azure struct {
	// The storage account. It must be given.
	AccountName string `yaml:"accountname" example:"registry"`
	// A key of the account. Without one, and without `credentials`, an identity is found by the AZURE_* variables (as those of a
	// Kubernetes service account with a workload identity), or else it is the managed identity of the machine.
	AccountKey Secret `yaml:"accountkey" example:"bm90IGEga2V5Cg=="`
	// The container. It must be given, and be there.
	Container string `yaml:"container" example:"registry"`
	// Who Berth is, where that is not proved by the `accountkey`.
	Credentials *AzureCredentials `yaml:"credentials"`
	// The domain of the cloud.
	Realm string `yaml:"realm" default:"core.windows.net"`
	// The URL of the blob service of the account, where it is not https://<accountname>.blob.<realm>.
	ServiceURL string `yaml:"serviceurl" example:"https://storage.example.com/registry"`
	// A folder of the container, in which everything is kept.
	RootDirectory string `yaml:"rootdirectory" example:"/registry"`
	// The size of the blocks in which large objects go up. An upload takes up to four of them of memory. An object has at most
	// 50,000 blocks; those of one whose size is not known double after every 12,500.
	ChunkSize Size `yaml:"chunksize" default:"10MiB" min:"1MiB"`
	// How many blocks are on their way at a time, of all uploads together.
	UploadConcurrency int `yaml:"uploadconcurrency" default:"8" min:"1"`
	// Trusts any certificate of the service.
	SkipVerify bool `yaml:"skipverify" default:"false"`
	// A PEM file of the authorities to trust instead of those of the system, for the service. Entra ID is checked by the system's.
	RootCA string `yaml:"rootca" example:"/etc/berth/azure-ca.pem"`
}

// AzureCredentials is the section storage.azure.credentials.
type AzureCredentials struct {
	// How Berth proves who it is. Without it: by the `accountkey` if there is one, otherwise as by default_credentials, which is
	// by the AZURE_* variables, or else by the managed identity of the machine.
	Type string `yaml:"type" enum:"shared_key|client_secret|default_credentials|managed_identity|workload_identity" example:"client_secret"`
	// The tenant of Entra ID, for client_secret. For workload_identity it is otherwise AZURE_TENANT_ID.
	TenantID string `yaml:"tenantid" example:"72f988bf-86f1-41af-91ab-2d7cd011db47"`
	// The application, for client_secret, or the identity, for managed_identity and workload_identity.
	ClientID string `yaml:"clientid" example:"3b1e2f0a-7c52-4f0e-9d5e-0a6a5d1f4c11"`
	// The secret of the application, for client_secret.
	Secret Secret `yaml:"secret" example:"a-client-secret"`
}

// Folder returns what comes before the keys of objects, without slashes at its ends.
func (a Azure) Folder() string { return strings.Trim(a.RootDirectory, "/") }

// Kind returns the kind of credentials, "" for the usual one.
func (a Azure) Kind() string {
	if a.Credentials == nil {
		return ""
	}
	return a.Credentials.Type
}

func (a Azure) check(c strict.Checking) {
	switch {
	case a.AccountName == "":
		c.Fail("accountname", "must be given")
	case a.ServiceURL == "" && !isName(a.AccountName, 24, ""):
		c.Fail("accountname", "must be 3 to 24 of a-z and 0-9, not %s", strict.Quote(a.AccountName))
	}
	if a.Container == "" {
		c.Fail("container", "must be given")
	} else if !isName(a.Container, 63, "-") {
		c.Fail("container", "must be 3 to 63 of a-z, 0-9 and -, not %s", strict.Quote(a.Container))
	}
	if strings.Trim(a.Realm, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" || a.Realm == "" {
		c.Fail("realm", "must be a domain such as core.windows.net, not %s", strict.Quote(a.Realm))
	}
	if a.ServiceURL != "" && !isBase(a.ServiceURL) {
		c.Fail("serviceurl", "must be a URL such as https://storage.example.com/registry")
	}
	if folder := a.Folder(); !isFolder(folder) {
		c.Fail("rootdirectory", "must be a folder of at most %d bytes of ASCII, not %s", maxFolder, strict.Quote(a.RootDirectory))
	}
	a.checkCredentials(c)
}

func (a Azure) checkCredentials(c strict.Checking) {
	kind, key := a.Kind(), a.AccountKey.Reveal()
	switch {
	case kind == "shared_key" && key == "":
		c.Fail("accountkey", "must be given, since credentials.type is shared_key")
	case kind != "" && kind != "shared_key" && key != "":
		c.Warn("accountkey", "ignored, since credentials.type is %s", kind)
	}
	if o := a.Credentials; kind == "client_secret" {
		for name, value := range map[string]string{"tenantid": o.TenantID, "clientid": o.ClientID, "secret": o.Secret.Reveal()} {
			if value == "" {
				c.Fail("credentials."+name, "must be given, since type is client_secret")
			}
		}
	}
	if strings.HasPrefix(a.ServiceURL, "http:") && (kind != "" && kind != "shared_key" || kind == "" && key == "") {
		c.Fail("serviceurl", "must be https, unless requests are signed by an accountkey: whoever hears a token can use it")
	}
}

// isName reports whether s has 3 to most bytes of a-z, 0-9 and others, which are neither at its ends nor in a row.
func isName(s string, most int, others string) bool {
	inside := strings.Trim(s, others) == s && (others == "" || !strings.Contains(s, others+others))
	return 3 <= len(s) && len(s) <= most && inside && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789"+others) == ""
}
