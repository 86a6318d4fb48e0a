// Package configuration reads Berth's one YAML file, in the key names of CNCF distribution, and the REGISTRY_*
// variables over it, strictly: whatever it does not know is an error that says where it stands and what is nearest.
//
// The structs below are the single source: decoding, variables, `berth config show`, docs/configuration.md and
// config.example.yml all walk them by reflection. A field is described by its doc comment, which is printed to users,
// and by its tags:
//
//	yaml     the key
//	default  the value when it is absent, written as in the file
//	enum     the values allowed, separated by "|", compared without regard to case
//	min      the least number, size or duration; without it the least is 0
//	choice   the key is one of the alternatives of its section (such as the storage drivers), of which one may be
//	         present; "required" if one must be
//	example  what config.example.yml shows for a key without a default
//
// A section that needs more than tags can express has a method check. A key that is known from elsewhere but not
// implemented has a row in foreign.go.
package configuration

import (
	"slices"
	"time"
)

// Config is a whole, valid configuration. It is not changed once it was returned by [Load] or [Parse].
type Config struct {
	// The version of this format. It must be given.
	Version string `yaml:"version" enum:"0.1" example:"0.1"`
	// What is logged, and how.
	Log Log `yaml:"log"`
	// Where content is kept.
	Storage Storage `yaml:"storage"`
	// Who may use the registry.
	Auth Auth `yaml:"auth"`
	// What each of them may do.
	Authorization Authorization `yaml:"authorization"`
	// How the registry is reached.
	HTTP HTTP `yaml:"http"`
	// What is measured, for Prometheus.
	Metrics Metrics `yaml:"metrics"`
	// What is watched, and what comes of it when it fails.
	Health Health `yaml:"health"`
	// How much is served at a time.
	Requests Requests `yaml:"requests"`
	// The list of repositories.
	Catalog Catalog `yaml:"catalog"`
	// The list of tags of a repository.
	Tags Tags `yaml:"tags"`
	// Which manifests are accepted.
	Validation Validation `yaml:"validation"`
	// The collection of what nothing refers to any more.
	GC GC `yaml:"gc"`

	sources map[string]string // by full key; what is absent has its default
}

// SendsToTokenEndpoint reports whether clients are sent to the token endpoint, as auth.tokenendpoint.mode has it.
func (c *Config) SendsToTokenEndpoint() bool {
	switch {
	case !c.Auth.HasTokenEndpoint():
		return false
	case c.Auth.TokenEndpoint.Mode == "always" || len(c.Auth.Anonymous) > 0:
		return true
	}
	return slices.ContainsFunc(c.Authorization.Bindings, func(b Binding) bool { return slices.Contains(b.Subjects, "anonymous") })
}

// Log is the section log.
type Log struct {
	// The least severe level that is logged.
	Level string `yaml:"level" default:"info" enum:"error|warn|info|debug"`
	// The form of a log line.
	Formatter string `yaml:"formatter" default:"text" enum:"text|json|logstash"`
	// Fields added to every log line.
	Fields map[string]string `yaml:"fields" example:"{service: registry}"`
	// Names the place in the source that wrote a line.
	ReportCaller bool `yaml:"reportcaller" default:"false"`
	// One line for every request, on standard output.
	AccessLog AccessLog `yaml:"accesslog"`
}

// AccessLog is the section log.accesslog.
type AccessLog struct {
	// Turns the access log off.
	Disabled bool `yaml:"disabled" default:"false"`
	// The form of its lines: `combined`, as web servers write them, or `json`; `auto` is combined beside `log.formatter: text`,
	// and json otherwise.
	Formatter string `yaml:"formatter" default:"auto" enum:"auto|combined|json"`
}

// AccessLogIsJSON reports whether the lines of the access log are JSON.
func (l Log) AccessLogIsJSON() bool {
	if l.AccessLog.Formatter == "auto" {
		return l.Formatter != "text"
	}
	return l.AccessLog.Formatter == "json"
}

// Storage is the section storage. Exactly one of its drivers is not nil.
type Storage struct {
	// Keeps content in a folder.
	Filesystem *Filesystem `yaml:"filesystem" choice:"required"`
	// Keeps content in memory, until the process ends.
	InMemory *InMemory `yaml:"inmemory" choice:"required"`
	// Keeps content in a folder that is emptied at every start, without waiting for the disk.
	EmptyDir *EmptyDir `yaml:"emptydir" choice:"required"`
	// Keeps content in a bucket of S3, or of a service that speaks its protocol.
	S3 *S3 `yaml:"s3" choice:"required"`
	// Keeps content in a bucket of Google Cloud Storage.
	GCS *GCS `yaml:"gcs" choice:"required"`
	// Keeps content in a container of Azure Blob Storage.
	Azure *Azure `yaml:"azure" choice:"required"`
	// How many processes serve this storage; 0 means that it was not said. With 1, a bucket without conditional puts is
	// served; with more, a storage that only one process can serve is refused.
	Replicas int `yaml:"replicas" default:"0"`
	// Deleting through the API.
	Delete Delete `yaml:"delete"`
	// Sending clients to the storage itself for the content of blobs, where it has URLs for that.
	Redirect Redirect `yaml:"redirect"`
	// What the registry keeps in memory of the storage.
	Cache Cache `yaml:"cache"`
	// Chores, and the switch that stops writing.
	Maintenance Maintenance `yaml:"maintenance"`
}

// Driver returns the key of the driver that is configured, such as "filesystem".
func (s Storage) Driver() string {
	switch {
	case s.Filesystem != nil:
		return "filesystem"
	case s.InMemory != nil:
		return "inmemory"
	case s.EmptyDir != nil:
		return "emptydir"
	case s.S3 != nil:
		return "s3"
	case s.GCS != nil:
		return "gcs"
	case s.Azure != nil:
		return "azure"
	}
	return ""
}

// Filesystem is the section storage.filesystem.
type Filesystem struct {
	// The folder.
	RootDirectory string `yaml:"rootdirectory" default:"/var/lib/registry"`
	// Lets several processes serve the same folder, such as a ReadWriteMany volume. Without it, the folder is locked.
	Shared bool `yaml:"shared" default:"false"`
	// How long a start waits for the process before it to release the folder.
	LockWait time.Duration `yaml:"lockwait" default:"30s"`
}

// InMemory is the section storage.inmemory, which has no keys.
type InMemory struct{}

// EmptyDir is the section storage.emptydir.
type EmptyDir struct {
	// The folder. One that holds anything that Berth did not put there is refused, not emptied.
	RootDirectory string `yaml:"rootdirectory" default:"/var/lib/registry"`
	// The most bytes kept; 0 means as many as fit.
	SizeLimit Size `yaml:"sizelimit" default:"0"`
}

// Delete is the section storage.delete.
type Delete struct {
	// Allows manifests, tags and blobs to be deleted.
	Enabled bool `yaml:"enabled" default:"false"`
}

// Redirect is the section storage.redirect.
type Redirect struct {
	// Sends nobody: all content passes through the registry.
	Disable bool `yaml:"disable" default:"false"`
	// How long a URL is good for, once given; a download that began may take longer. At most 168h.
	Expiry time.Duration `yaml:"expiry" default:"20m" min:"1s"`
	// Clients that are not sent, such as those who cannot reach the storage.
	Except []RedirectException `yaml:"except" example:"[{networks: [10.0.0.0/8], useragents: ['^Go-http-client/']}]"`
}

// RedirectException is an entry of storage.redirect.except: clients who fit all that is given.
type RedirectException struct {
	// The networks that they are in, as the registry sees their addresses.
	Networks []string `yaml:"networks"`
	// Regular expressions, one of which their User-Agent contains.
	UserAgents []string `yaml:"useragents"`
}

// Cache is the section storage.cache.
type Cache struct {
	// The memory for records (tags, manifests, links); 0 means none.
	Size Size `yaml:"size" default:"64MiB"`
}

// Maintenance is the section storage.maintenance.
type Maintenance struct {
	// The removal of uploads that were begun and never finished.
	UploadPurging UploadPurging `yaml:"uploadpurging"`
	// The registry as something to pull from only.
	ReadOnly ReadOnly `yaml:"readonly"`
}

// UploadPurging is the section storage.maintenance.uploadpurging.
type UploadPurging struct {
	// Removes abandoned uploads.
	Enabled bool `yaml:"enabled" default:"true"`
	// How long an upload must have been idle.
	Age time.Duration `yaml:"age" default:"168h" min:"1s"`
	// The time between two searches.
	Interval time.Duration `yaml:"interval" default:"24h" min:"1s"`
	// Logs what would be removed, and removes nothing.
	DryRun bool `yaml:"dryrun" default:"false"`
}

// ReadOnly is the section storage.maintenance.readonly.
type ReadOnly struct {
	// Refuses every request that would change something.
	Enabled bool `yaml:"enabled" default:"false"`
}

// Auth is the section auth. Without any of its keys nobody said who may use the registry.
type Auth struct {
	// Lets everybody do everything. It can be written as `auth: none`.
	None *NoAuth `yaml:"none" choice:"optional"`
	// Users with passwords, in a file as htpasswd and `berth user` write it. A change of the file takes effect by itself.
	HTPasswd *HTPasswd `yaml:"htpasswd"`
	// Bearer tokens of a token server, as CNCF distribution takes them. Clients are then sent there to log in, also those
	// with a user of `htpasswd`.
	Token *Token `yaml:"token"`
	// ID tokens of identity providers, as the password with any user name, or as Bearer tokens.
	OIDC *OIDC `yaml:"oidc"`
	// Where clients that ask for a token log in with a password of `htpasswd` or an ID token of `oidc`.
	TokenEndpoint TokenEndpoint `yaml:"tokenendpoint"`
	// Certificates that clients show when they connect, of the authorities in `http.tls.clientcas`, for requests without
	// other credentials.
	ClientCertificate *ClientCertificate `yaml:"clientcertificate"`
	// What everybody may do on every repository without logging in: pull, push, push-new, delete, list, admin, metrics.
	// For some repositories only, bind the subject `anonymous` in `authorization.bindings`.
	Anonymous []string `yaml:"anonymous" example:"[pull, list]"`
}

// Configured reports whether it was said who may use the registry.
func (a Auth) Configured() bool {
	return a.None != nil || a.distinguishes()
}

// distinguishes reports whether there is anybody who can be told from others.
func (a Auth) distinguishes() bool {
	return a.HTPasswd != nil || a.Token != nil || a.OIDC != nil || a.ClientCertificate != nil || len(a.Anonymous) > 0
}

// HasTokenEndpoint reports whether clients may ever be sent to the token endpoint.
func (a Auth) HasTokenEndpoint() bool {
	return a.TokenEndpoint.Mode != "never" && a.Token == nil && (a.HTPasswd != nil || a.OIDC != nil)
}

// NoAuth is the section auth.none, which has no keys.
type NoAuth struct{}

// HTPasswd is the section auth.htpasswd.
type HTPasswd struct {
	// The name that clients show when they ask for a password.
	Realm string `yaml:"realm" default:"Registry"`
	// The file. It must be given.
	Path string `yaml:"path" example:"/etc/berth/users"`
}

// Token is the section auth.token.
type Token struct {
	// The URL of the token server, to which clients are sent.
	Realm string `yaml:"realm" example:"https://auth.example.com/token"`
	// The name of this registry: one of the audiences of a token. It must be given.
	Service string `yaml:"service" example:"registry.example.com"`
	// The `iss` of tokens, exactly. It must be given.
	Issuer string `yaml:"issuer" example:"auth.example.com"`
	// A PEM file of certificates by which tokens are checked. It or `jwks` must be given. A change of a file takes effect by
	// itself.
	RootCertBundle string `yaml:"rootcertbundle" example:"/etc/berth/token.pem"`
	// A file, or the https URL, of a JSON Web Key Set by which tokens are checked. A URL must answer when the server starts.
	JWKS string `yaml:"jwks" example:"https://auth.example.com/keys"`
	// Those that are accepted; without any all of RS256 to RS512, PS256 to PS512, ES256 to ES512, and EdDSA.
	SigningAlgorithms []string `yaml:"signingalgorithms" example:"[ES256, EdDSA]"`
	// Sends clients to a token server at the host that they asked for, instead of `realm`.
	AutoRedirect bool `yaml:"autoredirect" default:"false"`
	// The path there.
	AutoRedirectPath string `yaml:"autoredirectpath" default:"/auth/token"`
	// After how long the keys at a URL are fetched again. A key that was taken away is trusted for up to twice as long.
	Refresh time.Duration `yaml:"refresh" default:"5m" min:"10s"`
	// A PEM file of the authorities to trust, instead of those of the system, when keys are fetched.
	CA string `yaml:"ca" example:"/etc/berth/ca.pem"`
}

// TokenEndpoint is the section auth.tokenendpoint. The endpoint is at /v2/_berth/auth/token.
type TokenEndpoint struct {
	// When clients are sent there: `auto`, while anything may be done without logging in, since by it alone the docker engine
	// both pulls without logging in and logs in; `always`; `never`. Beside `auth.token` they are sent to the token server.
	Mode string `yaml:"mode" default:"auto" enum:"auto|always|never"`
	// How long a token of the endpoint holds, an hour at most. That of a user of `htpasswd` also ends with the password.
	Lifetime time.Duration `yaml:"lifetime" default:"5m" min:"1m"`
	// The name of this registry, for which tokens are. The default is the host in `http.host`, or `registry`.
	Service string `yaml:"service" example:"registry.example.com"`
}

// OIDC is the section auth.oidc.
type OIDC struct {
	// The identity providers. Names of users of several, and of `htpasswd`, are the same user unless `userprefix` tells them
	// apart.
	Issuers []OIDCIssuer `yaml:"issuers" example:"[{url: 'https://id.example.com', audiences: [registry], jwks: '', refresh: 5m, ca: '', tokenfile: '', user: sub, userprefix: 'id:', groups: [{claim: groups, prefix: 'id:'}], conditions: {repository: ['acme/*']}}]"`
}

// OIDCIssuer is an element of auth.oidc.issuers.
type OIDCIssuer struct {
	// The `iss` of its tokens, exactly. It must be given.
	URL string `yaml:"url"`
	// The audiences, one of which a token must be for. One must be given.
	Audiences []string `yaml:"audiences"`
	// A file, or the https URL, of its keys. Without it they are found by discovery, at `url`.
	JWKS string `yaml:"jwks"`
	// After how long keys at a URL are fetched again. A key that was taken away is trusted for up to twice as long.
	Refresh time.Duration `yaml:"refresh" default:"5m" min:"10s"`
	// A PEM file of the authorities to trust, instead of those of the system, when keys are fetched.
	CA string `yaml:"ca"`
	// A file with a token to be sent when keys are fetched, as the API server of a Kubernetes cluster asks for.
	TokenFile string `yaml:"tokenfile"`
	// The claim that is the name of the user.
	User string `yaml:"user" default:"sub"`
	// What is put before that name. Without it, an issuer can name users of another issuer or of `htpasswd`.
	UserPrefix string `yaml:"userprefix"`
	// The claims that are names of groups.
	Groups []OIDCGroups `yaml:"groups"`
	// Patterns by claim. A token must have each claim, and each must match one of its patterns: `*` is anything without a
	// slash, `**` anything.
	Conditions map[string][]string `yaml:"conditions"`
}

// OIDCGroups is an element of auth.oidc.issuers[].groups.
type OIDCGroups struct {
	// The claim, such as groups or realm_access.roles. It must be given.
	Claim string `yaml:"claim"`
	// What is put before each name.
	Prefix string `yaml:"prefix"`
}

// Authorization is the section authorization. Without bindings, whoever is logged in may do everything.
type Authorization struct {
	// Who has which roles on which repositories. What no binding allows is denied.
	Bindings []Binding `yaml:"bindings" example:"[{subjects: ['group:team-a'], roles: [registry-editor], repositories: ['team-a/**']}]"`
	// Roles of your own, as lists of actions: pull, push, push-new (pushes that move no tag), delete, list, admin, metrics.
	Roles map[string][]string `yaml:"roles" example:"{release: [pull, push-new]}"`
	// A YAML file of groups, each with the list of its users. A change of the file takes effect by itself.
	GroupsFile string `yaml:"groupsfile" example:"/etc/berth/groups.yml"`
	// Tags that, once there, nobody moves or deletes.
	ImmutableTags []ImmutableTags `yaml:"immutabletags" example:"[{repositories: '**', tags: ['v*']}]"`
	// The names that new repositories may have.
	Naming Naming `yaml:"naming"`
}

// Binding is an element of authorization.bindings.
type Binding struct {
	// `user:NAME`, `group:NAME`, `authenticated` or `anonymous`.
	Subjects []string `yaml:"subjects"`
	// Built-in roles or those of `authorization.roles`.
	Roles []string `yaml:"roles"`
	// Patterns of repositories, such as `team-a/**`; `**` is all.
	Repositories []string `yaml:"repositories"`
}

// ImmutableTags is an element of authorization.immutabletags.
type ImmutableTags struct {
	// A pattern of repositories, such as `team-a/**`.
	Repositories string `yaml:"repositories" default:"**"`
	// Patterns of tags, in which `*` stands for any characters.
	Tags []string `yaml:"tags"`
}

// Naming is the section authorization.naming.
type Naming struct {
	// The most components of a name; 0 means any number.
	MaxDepth int `yaml:"maxdepth" default:"0"`
	// Asks for names of exactly the form project/name.
	ProjectName bool `yaml:"projectname" default:"false"`
}

// HTTP is the section http.
type HTTP struct {
	// The address to listen on: host:port, or the path of a socket when `net` is unix. `:5000` is every address of the
	// machine.
	Addr string `yaml:"addr" default:"127.0.0.1:5000"`
	// The kind of address.
	Net string `yaml:"net" default:"tcp" enum:"tcp|unix"`
	// The URL at which clients reach the registry, for the URLs in its answers. Without it they follow the request and
	// the headers of proxies.
	Host string `yaml:"host" example:"https://registry.example.com"`
	// A path in front of `/v2/`, beginning and ending with a slash.
	Prefix string `yaml:"prefix" default:"/"`
	// The key that protects the ids of uploads. Without it one is made and kept in the storage, shared by all replicas.
	Secret Secret `yaml:"secret" example:"a-long-random-text"`
	// Answers with URLs that have no scheme and host.
	RelativeURLs bool `yaml:"relativeurls" default:"false"`
	// How long the server goes on as before once it was told to stop, but for `/readyz`, which tells that it stops: as long as
	// whoever sends requests here takes to notice.
	DrainDelay time.Duration `yaml:"draindelay" default:"0s"`
	// How long running requests may go on once the process was told to stop, and `draindelay` is over.
	DrainTimeout time.Duration `yaml:"draintimeout" default:"30s"`
	// Headers added to every answer.
	Headers map[string][]string `yaml:"headers" example:"{X-Content-Type-Options: [nosniff]}"`
	// How long a client may take to send the header of a request.
	ReadHeaderTimeout time.Duration `yaml:"readheadertimeout" default:"10s" min:"1s"`
	// How long a connection may stay open between requests.
	IdleTimeout time.Duration `yaml:"idletimeout" default:"120s" min:"1s"`
	// How long a request may go on without a byte moving. There is no limit to a request as a whole.
	ProgressTimeout time.Duration `yaml:"progresstimeout" default:"60s" min:"1s"`
	// The size of the header of a request.
	MaxHeaderBytes Size `yaml:"maxheaderbytes" default:"64KiB" min:"4KiB"`
	// How many connections may be open; 0 means any number. For a new one beyond them the one that has been idle for
	// longest is closed; when none is, it waits until another ends.
	MaxConnections int `yaml:"maxconnections" default:"10000"`
	// HTTPS.
	TLS TLS `yaml:"tls"`
	// HTTP/2, which is spoken over TLS.
	HTTP2 HTTP2 `yaml:"http2"`
	// A listener for who runs the server.
	Debug Debug `yaml:"debug"`
	// The way in for commands such as `berth status` and `berth reload`.
	Admin Admin `yaml:"admin"`
}

// Catalog is the section catalog.
type Catalog struct {
	// The most repositories in one answer.
	MaxEntries int `yaml:"maxentries" default:"1000" min:"1"`
}

// Tags is the section tags.
type Tags struct {
	// The most tags in one answer.
	MaxTags int `yaml:"maxtags" default:"1000" min:"1"`
}

// Validation is the section validation.
type Validation struct {
	// Accepts manifests whatever URLs and platforms they name.
	Disabled bool `yaml:"disabled" default:"false"`
	// The rules.
	Manifests Manifests `yaml:"manifests"`
}

// Manifests is the section validation.manifests.
type Manifests struct {
	// The size of the largest manifest accepted.
	MaxSize Size `yaml:"maxsize" default:"4MiB" min:"4KiB"`
	// The URLs that layers may name as a source of their own, which the registry never asks. Without `allow` and `deny` any
	// may; CNCF distribution refuses them then.
	URLs URLs `yaml:"urls"`
	// What an index must name that exists.
	Indexes Indexes `yaml:"indexes"`
}

// URLs is the section validation.manifests.urls.
type URLs struct {
	// Regular expressions, one of which a URL must match.
	Allow []string `yaml:"allow" example:"['^https?://([^/]+\\.)*example\\.com/']"`
	// Regular expressions, none of which a URL may match.
	Deny []string `yaml:"deny" example:"['^https?://bad\\.example\\.com/']"`
}

// Indexes is the section validation.manifests.indexes.
type Indexes struct {
	// Which manifests named by an index must exist when it is pushed: all, none, or those of the platforms in a list.
	Platforms string `yaml:"platforms" default:"all" enum:"all|none|list"`
	// The platforms, when `platforms` is list.
	PlatformList []Platform `yaml:"platformlist" example:"[{architecture: amd64, os: linux}]"`
}

// Platform is an element of validation.manifests.indexes.platformlist.
type Platform struct {
	// As in an index, such as amd64.
	Architecture string `yaml:"architecture"`
	// As in an index, such as linux.
	OS string `yaml:"os"`
}

// GC is the section gc.
type GC struct {
	// Removes what nothing refers to any more, while everything else goes on.
	Enabled bool `yaml:"enabled" default:"true"`
	// When, as in crontab(5), by the local time: minute, hour, day, month, day of the week. With it, `interval` does not
	// count.
	Schedule string `yaml:"schedule" example:"30 3 * * *"`
	// The time from the beginning of one collection to that of the next.
	Interval time.Duration `yaml:"interval" default:"6h" min:"1s"`
	// How long what is not used is kept before it may be collected. Clocks of replicas and of the storage may differ by an
	// eighth of it, and a request that pushes a manifest may take half of it.
	Grace time.Duration `yaml:"grace" default:"24h" min:"1s"`
	// How many records are read or removed at a time.
	Concurrency int `yaml:"concurrency" default:"4" min:"1"`
	// The most calls to the storage per second; 0 means any number.
	RateLimit int `yaml:"ratelimit" default:"0"`
}
