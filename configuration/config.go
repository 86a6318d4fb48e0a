// Package configuration reads Berth's one YAML file, in the key names of CNCF distribution, and the REGISTRY_*
// variables over it, strictly: whatever it does not know is an error that says where it stands and what is nearest.
//
// The structs below are the single source: decoding, variables, `berth config show`, docs/configuration.md and
// config.example.yml all walk them by reflection. A field is described by its doc comment, which is printed to users,
// and by its tags, see package strict, which does the reading.
//
// A section that needs more than tags can express has a method check. A key that is known from elsewhere but not
// implemented has a row in foreign.go.
package configuration

import (
	"slices"
	"time"

	"berth/configuration/strict"
)

// The kinds of values that are more than a text, a number or a list, and what is said of values.
type (
	Size    = strict.Size
	Secret  = strict.Secret
	Error   = strict.Error
	Warning = strict.Warning
)

// NewSecret returns a secret that holds text.
func NewSecret(text string) Secret { return strict.NewSecret(text) }

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
	// The key that protects the ids of uploads, and tokens of `auth.tokenendpoint`: 32 characters or more. Without it one is made
	// and kept in the storage, shared by all replicas.
	Secret Secret `yaml:"secret" example:"a-random-text-of-32-characters-or-more"`
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
	// The size of the largest manifest accepted, 10MiB at most.
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
