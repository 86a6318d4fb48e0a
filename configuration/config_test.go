package configuration

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/configuration/strict"
)

const minimal = "version: 0.1\nstorage: inmemory\n"

func lines(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

func texts(warnings []Warning) []string {
	var all []string
	for _, w := range warnings {
		all = append(all, w.String())
	}
	return all
}

func mustParse(t *testing.T, yaml string, environ ...string) *Config {
	t.Helper()
	c, warnings, err := Parse("c.yml", []byte(yaml), environ)
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) > 0 {
		t.Fatalf("warnings: %q", texts(warnings))
	}
	return c
}

func TestDefaults(t *testing.T) {
	c := mustParse(t, minimal)
	if c.Storage.Driver() != "inmemory" || c.Storage.Filesystem != nil || c.Storage.EmptyDir != nil {
		t.Errorf("storage is %+v", c.Storage)
	}
	for _, row := range []struct{ key, got, want any }{
		{"log.level", c.Log.Level, "info"},
		{"log.formatter", c.Log.Formatter, "text"},
		{"http.addr", c.HTTP.Addr, "127.0.0.1:5000"},
		{"http.net", c.HTTP.Net, "tcp"},
		{"http.prefix", c.HTTP.Prefix, "/"},
		{"http.draintimeout", c.HTTP.DrainTimeout, 30 * time.Second},
		{"http.readheadertimeout", c.HTTP.ReadHeaderTimeout, 10 * time.Second},
		{"http.idletimeout", c.HTTP.IdleTimeout, 2 * time.Minute},
		{"http.progresstimeout", c.HTTP.ProgressTimeout, time.Minute},
		{"http.maxheaderbytes", c.HTTP.MaxHeaderBytes, Size(64 << 10)},
		{"storage.cache.size", c.Storage.Cache.Size, Size(64 << 20)},
		{"storage.delete.enabled", c.Storage.Delete.Enabled, false},
		{"storage.maintenance.readonly.enabled", c.Storage.Maintenance.ReadOnly.Enabled, false},
		{"storage.maintenance.uploadpurging", c.Storage.Maintenance.UploadPurging,
			UploadPurging{Enabled: true, Age: 168 * time.Hour, Interval: 24 * time.Hour}},
		{"catalog.maxentries", c.Catalog.MaxEntries, 1000},
		{"tags.maxtags", c.Tags.MaxTags, 1000},
		{"validation.manifests.maxsize", c.Validation.Manifests.MaxSize, Size(4 << 20)},
		{"validation.manifests.indexes.platforms", c.Validation.Manifests.Indexes.Platforms, "all"},
		{"gc", c.GC, GC{Enabled: true, Interval: 6 * time.Hour, Grace: 24 * time.Hour, Concurrency: 4}},
	} {
		if row.got != row.want {
			t.Errorf("%v is %v, want %v", row.key, row.got, row.want)
		}
	}
	if c.Auth.None != nil {
		t.Error("auth: none without being asked for")
	}
}

// TestFiles has what is accepted without a warning.
func TestFiles(t *testing.T) {
	for _, row := range []struct {
		name, yaml string
		want       func(c *Config) bool
	}{
		{"storage as a name", "storage: filesystem", func(c *Config) bool {
			return *c.Storage.Filesystem == Filesystem{RootDirectory: "/var/lib/registry", LockWait: 30 * time.Second}
		}},
		{"a driver without a value", "storage:\n  filesystem:\n", func(c *Config) bool {
			return c.Storage.Filesystem.RootDirectory == "/var/lib/registry"
		}},
		{"emptydir", "storage: {emptydir: {rootdirectory: /x, sizelimit: 10GiB}}", func(c *Config) bool {
			return *c.Storage.EmptyDir == EmptyDir{"/x", 10 << 30}
		}},
		{"uploadpurging defaults per key", "storage: {inmemory: {}, maintenance: {uploadpurging: {age: 7d}}}",
			func(c *Config) bool {
				p := c.Storage.Maintenance.UploadPurging
				return p == UploadPurging{Enabled: true, Age: 168 * time.Hour, Interval: 24 * time.Hour}
			}},
		{"a section without a value", "storage: inmemory\nhttp:\nlog:\n", func(c *Config) bool { return c.HTTP.Net == "tcp" }},
		{"a key without a value", "storage: inmemory\nhttp: {addr: , secret: ~}",
			func(c *Config) bool { return c.HTTP.Addr == "127.0.0.1:5000" && c.Source("http.addr") == "default" }},
		{"auth as a name", "storage: inmemory\nauth: none", func(c *Config) bool { return c.Auth.None != nil }},
		{"auth as a section", "storage: inmemory\nauth: {none: {}}", func(c *Config) bool { return c.Auth.None != nil }},
		{"texts are literal", "storage: inmemory\nhttp: {secret: 01234567890123456789012345678901}\nlog: {fields: {a: yes, b: 1.50}}",
			func(c *Config) bool {
				return c.HTTP.Secret.Reveal() == "01234567890123456789012345678901" && c.Log.Fields["a"] == "yes" && c.Log.Fields["b"] == "1.50"
			}},
		{"quoted numbers and truths", `{storage: {inmemory: , delete: {enabled: "yes"}}, tags: {maxtags: "7"}}`,
			func(c *Config) bool { return c.Storage.Delete.Enabled && c.Tags.MaxTags == 7 }},
		{"enums in any case", "storage: inmemory\nlog: {level: WARN}", func(c *Config) bool { return c.Log.Level == "warn" }},
		{"headers", "storage: inmemory\nhttp: {headers: {X-A: [b, 'c: d']}}",
			func(c *Config) bool {
				return reflect.DeepEqual(c.HTTP.Headers, map[string][]string{"X-A": {"b", "c: d"}})
			}},
		{"aliases", "storage: inmemory\ncatalog: {maxentries: &n 9}\ntags: {maxtags: *n}",
			func(c *Config) bool { return c.Tags.MaxTags == 9 }},
		{"a socket", "storage: inmemory\nhttp: {net: unix, addr: /run/berth.sock}", func(c *Config) bool { return true }},
		{"platforms", "storage: inmemory\nvalidation: {manifests: {indexes: {platforms: List, platformlist: [{os: a, architecture: b}]}}}",
			func(c *Config) bool {
				i := c.Validation.Manifests.Indexes
				return i.Platforms == "list" && i.PlatformList[0] == Platform{Architecture: "b", OS: "a"}
			}},
		{"what asks for nothing", "storage: {inmemory: , redirect: {disable: true}, cache: {blobdescriptor: inmemory}}\n" +
			"http: {tls: {certificate: '', clientcas: []}, debug: {prometheus: {enabled: false}}, h2c: {enabled: no}}\n" +
			"proxy: {remoteurl: ''}\nnotifications: {endpoints: [{name: a, url: 'http://a', disabled: yes}]}\nhealth:\nopenshift: {version: 1.0, quota: {enabled: false}," +
			" requests: {read: {maxrunning: 0}}, compatibility: {acceptschema2: true}}", func(c *Config) bool { return true }},
	} {
		t.Run(row.name, func(t *testing.T) {
			yaml := "version: 0.1\n" + row.yaml
			if strings.HasPrefix(row.yaml, "{") {
				yaml = "{version: 0.1, " + row.yaml[1:]
			}
			if c := mustParse(t, yaml); !row.want(c) {
				t.Errorf("read as %+v", c)
			}
		})
	}
}

// TestRefusals has one bad thing a row, with all lines of the error. The first line of a file is line 1.
func TestRefusals(t *testing.T) {
	for _, row := range []struct {
		yaml string
		want string
	}{
		{"", "c.yml: storage: must have one of filesystem, inmemory, emptydir, s3, gcs, azure|c.yml:1: version: must be given: version: 0.1"},
		{"storage: inmemory", "c.yml:1: version: must be given: version: 0.1"},
		{"version: 0.2\nstorage: inmemory", `c.yml:1: version: must be 0.1, not "0.2"`},
		{"version: 0.1", "c.yml: storage: must have one of filesystem, inmemory, emptydir, s3, gcs, azure"},
		{"version: 0.1\nstorage: {delete: {enabled: true}}", "c.yml:2: storage: must have one of filesystem, inmemory, emptydir, s3, gcs, azure"},
		{"version: 0.1\nstorage:\n  filesystem:\n  inmemory:",
			"c.yml:4: storage: has both filesystem (c.yml:3) and inmemory; keep one"},
		{"version: 0.1\nstorage: tape", "c.yml:2: storage.tape: unknown key; the nearest is storage.tag|" +
			"c.yml:2: storage: must have one of filesystem, inmemory, emptydir, s3, gcs, azure"},
		{minimal + "http:\n  adr: x", "c.yml:4: http.adr: unknown key; the nearest is http.addr"},
		{minimal + "htp: {addr: x}", "c.yml:3: htp: unknown key; the nearest is http"},
		{minimal + "log:\n  accesslog:\n    disable: true", "c.yml:5: log.accesslog.disable: unknown key; the nearest is log.accesslog.disabled"},
		{minimal + `"a\nb": 1`, `c.yml:3: "a\nb": unknown key; the nearest is auth`},
		{minimal + "http: {addr: ':1'}\nhttp: {}", "c.yml:4: http: given twice, first at c.yml:3"},
		{minimal + "log:\n  fields:\n    a: 1\n    a: 2", "c.yml:6: log.fields.a: given twice, first at c.yml:5"},
		{minimal + "log: {level: trace}", `c.yml:3: log.level: must be one of error, warn, info, debug, not "trace"`},
		{minimal + "log: {level: [info]}", `c.yml:3: log.level: must be one of error, warn, info, debug, not a list`},
		{minimal + "log: {formatter: xml}", `c.yml:3: log.formatter: must be one of text, json, logstash, not "xml"`},
		{minimal + "log: {reportcaller: maybe}", `c.yml:3: log.reportcaller: must be true or false, not "maybe"`},
		{minimal + "log: {fields: [a]}", `c.yml:3: log.fields: must be a section such as {key: value}, not a list`},
		{minimal + "log: {fields: {a: {b: c}}}", `c.yml:3: log.fields.a: must be a text, not a section`},
		{minimal + "log: high", `c.yml:3: log: must be a section such as {key: value}, not "high"`},
		{minimal + "http: {draintimeout: soon}", `c.yml:3: http.draintimeout: must be a duration such as 30s, 12h or 7d, not "soon"`},
		{minimal + "http: {draintimeout: -1s}", `c.yml:3: http.draintimeout: must be at least 0s, not "-1s"`},
		{minimal + "http: {idletimeout: 0}", `c.yml:3: http.idletimeout: must be at least 1s, not "0"`},
		{minimal + "http: {maxheaderbytes: 1KiB}", `c.yml:3: http.maxheaderbytes: must be at least 4KiB, not "1KiB"`},
		{minimal + "http: {maxheaderbytes: big}", `c.yml:3: http.maxheaderbytes: must be a size such as 10MiB, not "big"`},
		{minimal + "health: {http: [{uri: 'https://a/', headers: {Authorization: secret}}]}", `c.yml:3: health.http[0].headers.Authorization: must be a list such as [a, b], not ***`},
		{minimal + "http: {headers: {X-A: b}}", `c.yml:3: http.headers.X-A: must be a list such as [a, b], not "b"`},
		{minimal + "http: {headers: {X-A: [~]}}", `c.yml:3: http.headers.X-A[0]: must be a text, not nothing`},
		{minimal + "http: {headers: {'X A': []}}", `c.yml:3: http.headers: "X A" is not the name of a header`},
		{minimal + "http: {headers: {X-A: [\"b\\r\\nc\"]}}", `c.yml:3: http.headers: a value of "X-A" has a line break or a zero byte`},
		{minimal + "http: {secret: {a: hush}}", `c.yml:3: http.secret: must be a text, not a section`},
		{minimal + "http: {addr: 5000}", `c.yml:3: http.addr: must be host:port such as 127.0.0.1:5000 or :5000, not "5000"`},
		{minimal + "http: {addr: ':70000'}", `c.yml:3: http.addr: must be host:port such as 127.0.0.1:5000 or :5000, not ":70000"`},
		{minimal + "http: {net: unix}", `c.yml:3: http.addr: must be the path of a socket, since http.net is unix, not "127.0.0.1:5000"`},
		{minimal + "http: {net: udp}", `c.yml:3: http.net: must be one of tcp, unix, not "udp"`},
		{minimal + "http: {host: registry.example.com}", `c.yml:3: http.host: must be a URL of scheme and host such as https://registry.example.com`},
		{minimal + "http: {host: 'https://a/b'}", `c.yml:3: http.host: must be a URL of scheme and host such as https://registry.example.com`},
		{minimal + "http: {host: 'https://u:hush@a'}", `c.yml:3: http.host: must be a URL of scheme and host such as https://registry.example.com`},
		{minimal + "http: {prefix: /a}", `c.yml:3: http.prefix: must be a path that begins and ends with a slash such as /registry/, not "/a"`},
		{minimal + "http: {prefix: /a/../}", `c.yml:3: http.prefix: must be a path that begins and ends with a slash such as /registry/, not "/a/../"`},
		{minimal + "catalog: {maxentries: 0}", `c.yml:3: catalog.maxentries: must be at least 1, not "0"`},
		{minimal + "tags: {maxtags: 1e3}", `c.yml:3: tags.maxtags: must be a whole number, not "1e3"`},
		{minimal + "validation: {manifests: {urls: {deny: [a, '(']}}}", `c.yml:3: validation.manifests.urls.deny[1]: must be a regular expression, not "("`},
		{minimal + "validation: {manifests: {indexes: {platforms: list}}}", `c.yml:3: validation.manifests.indexes.platformlist: ` +
			`must name a platform, since validation.manifests.indexes.platforms is list`},
		{minimal + "validation: {manifests: {indexes: {platformlist: [{arch: x, os: y}]}}}",
			`c.yml:3: validation.manifests.indexes.platformlist[0].arch: unknown key; the nearest is validation.manifests.indexes.platformlist[].architecture|` +
				`c.yml:3: validation.manifests.indexes.platformlist[0].architecture: must be given`},
		{"version: 0.1\nstorage: {filesystem: {rootdirectory: ''}}", `c.yml:2: storage.filesystem.rootdirectory: must be the path of a folder, not ""`},
		{"- a", "c.yml:1: must be a section such as {key: value}, not a list"},
		{minimal + "log:\n\tlevel: info", "c.yml:4: not valid YAML: found character that cannot start any token; " +
			"the line is indented by a tab, and YAML takes blanks only"},
		{minimal + "notifications:\n  endpoints:\n  - {url: 'http://a', disabled: true}\n  - {url: 'http://b', disabled: maybe}",
			"c.yml:4: notifications.endpoints: not implemented in this version: its endpoints would wait for events in vain"},
		{minimal + "compatibility: {schema1: {enabled: true}}", "c.yml:3: compatibility.schema1.enabled: Docker schema 1 is not taken any more; " +
			"push such images again by a client of today"},
		{minimal + "a: [", "c.yml:3: not valid YAML: did not find expected node content"},
		{minimal + "log: {level: *x}", "c.yml:1: not valid YAML: unknown anchor 'x' referenced"},
		{minimal + "---\nversion: 0.1", "c.yml:3: a second document begins here; only one is read"},
		{minimal + "log: &a {fields: *a}", "c.yml:1: too large, or an alias that contains itself"},
		{"version: 0.3\nstorage: inmemory\nlog: {level: x}\nhttp: {net: y}", `c.yml:1: version: must be 0.1, not "0.3"|` +
			`c.yml:3: log.level: must be one of error, warn, info, debug, not "x"|c.yml:4: http.net: must be one of tcp, unix, not "y"`},

		{"version: 0.1\nstorage: {oss: {bucket: b}}", "c.yml:2: storage.oss: there is no OSS storage"},
		{"version: 0.1\nstorage: oss", "c.yml:2: storage.oss: there is no OSS storage"},
		{minimal + "auth: htpasswd", "c.yml:3: auth.htpasswd.path: must be the path of a file of users; `berth user add` makes one"},
		{minimal + "auth:\n  none:\n  htpasswd: {path: x}", "c.yml:4: auth.none: lets everybody do everything, so that nothing may stand beside it; keep one"},
		{minimal + "auth: none\nauthorization:\n  bindings: [{subjects: [anonymous]}]",
			"c.yml:5: authorization.bindings: would bind nobody: without another key of auth than none everybody may do everything"},
		{minimal + "authorization: {naming: {maxdepht: 2}}", "c.yml:3: authorization.naming.maxdepht: unknown key; the nearest is authorization.naming.maxdepth"},
		{minimal + "auth:\n  none:\n  openshift: {realm: x}", "c.yml:5: auth.openshift: not implemented in this version: without it everybody could do everything|" +
			"c.yml:5: auth: has both none (c.yml:4) and openshift; keep one"},
		{minimal + "auth:\n  none:\n  token: {realm: 'https://x/', service: s, issuer: i, jwks: k}",
			"c.yml:4: auth.none: lets everybody do everything, so that nothing may stand beside it; keep one"},
		{minimal + "auth:\n  token: {realm: x}", "c.yml:4: auth.token.service: must be the name of this registry, which tokens must be for|" +
			"c.yml:4: auth.token.issuer: must be given: the iss of the tokens|c.yml:4: auth.token: must have rootcertbundle or jwks, by which tokens are checked|" +
			"c.yml:4: auth.token.realm: must be the URL of the token server such as https://auth.example.com/token"},
		{"version: 0.1\nstorage:\n  inmemory:\n  redirect: {expiry: 169h, except: [{}, {networks: [10.0.0.1], useragents: ['(']}]}",
			"c.yml:4: storage.redirect.except[0]: must have networks or useragents; to send nobody, write storage.redirect.disable: true|" +
				`c.yml:4: storage.redirect.except[1].networks[0]: must be a network such as 10.0.0.0/8, not "10.0.0.1"|` +
				"c.yml:4: storage.redirect.except[1].useragents[0]: must be a regular expression: error parsing regexp: missing closing ): `(`|" +
				"c.yml:4: storage.redirect.expiry: must be at most 168h, the longest that storages sign for, not 169h0m0s"},
		{minimal + "auth:\n  token: {autoredirect: true, autoredirectpath: x, service: s, issuer: i, jwks: k}",
			`c.yml:4: auth.token.autoredirectpath: must begin with a slash, not "x"`},
		{minimal + "auth: {oidc: {}}", "c.yml:3: auth.oidc.issuers: must name an identity provider"},
		{minimal + "auth:\n  oidc:\n    issuers:\n    - {audiences: ['']}\n    - {url: u, audiences: [a], groups: [{prefix: x}]}\n",
			"c.yml:6: auth.oidc.issuers[0].url: must be given: the iss of the tokens|" +
				"c.yml:6: auth.oidc.issuers[0].audiences: must name an audience: tokens for other services would be taken otherwise|" +
				"c.yml:7: auth.oidc.issuers[1].groups[0].claim: must be given"},
		{minimal + "auth:\n  oidc:\n    issuers: [{url: 'https://token.actions.githubusercontent.com/', audiences: [r]}]",
			"c.yml:5: auth.oidc.issuers[0]: https://token.actions.githubusercontent.com/ has tokens for everybody in the world, and " +
				"without conditions or bindings of users and groups everybody could use this registry; write conditions, such as {repository_owner: [acme]}"},
		{minimal + "auth: {oidc: {issuers: [{url: 'https://gitlab.com', audiences: [r]}]}}\n" +
			"authorization: {bindings: [{subjects: ['user:x', authenticated], roles: [registry-viewer], repositories: ['**']}]}",
			"c.yml:3: auth.oidc.issuers[0]: https://gitlab.com has tokens for everybody in the world, and " +
				"without conditions or bindings of users and groups everybody could use this registry; write conditions, such as {repository_owner: [acme]}"},
		{minimal + "http: {secret: asecretforlocaldevelopment}",
			"c.yml:3: http.secret: must have 32 characters or more, since ids of uploads and tokens are made by it; without it one is made and kept in the storage"},
		{minimal + "auth:\n  tokenendpoint: {mode: always, lifetime: 2h, service: 'a b'}",
			"c.yml:4: auth.tokenendpoint.lifetime: must be at most 1h, not 2h0m0s|" +
				"c.yml:4: auth.tokenendpoint.service: must be a name without blanks, such as registry.example.com|" +
				"c.yml:4: auth.tokenendpoint.mode: is for users of auth.htpasswd and auth.oidc, and not beside auth.token, where clients are sent to the token server"},
		{minimal + "validation: {manifests: {maxsize: 11MiB}}", "c.yml:3: validation.manifests.maxsize: must be at most 10MiB, the most that records hold whatever is in it, not 11MiB"},
		{minimal + "http: {tls: {certificate: a.pem}}", "c.yml:3: http.tls.key: must be the path of a file, since there is a certificate"},
		{minimal + "proxy:\n  username: ''\n  remoteurl: https://x", "c.yml:5: proxy: not implemented in this version: without it the server would be no mirror but an empty registry"},
		{minimal + "health: {file: [{interval: 5s}]}", "c.yml:3: health.file[0].file: must be the path of a file"},
		{minimal + "health: {http: [{uri: auth.example.com}]}", "c.yml:3: health.http[0].uri: must be a URL such as https://auth.example.com/healthz"},
		{minimal + "health: {http: [{uri: 'http://x', statuscode: 600}]}", "c.yml:3: health.http[0].statuscode: must be a status such as 200, not 600"},
		{minimal + "health: {tcp: [{addr: x}]}", "c.yml:3: health.tcp[0].addr: must be host:port such as 10.0.0.1:636, not \"x\""},
		{minimal + "health: {storagedriver: {interval: 1ms}}", "c.yml:3: health.storagedriver.interval: must be at least 100ms, not \"1ms\""},
		{minimal + "log: {formatter: xml}", "c.yml:3: log.formatter: must be one of text, json, logstash, not \"xml\""},
		{minimal + "log: {accesslog: {formatter: xml}}", "c.yml:3: log.accesslog.formatter: must be one of auto, combined, json, not \"xml\""},
		{minimal + "health: {fil: []}", "c.yml:3: health.fil: unknown key; the nearest is health.file"},
		{minimal + "health: on", `c.yml:3: health: must be a section such as {key: value}, not "on"`},
		{minimal + "openshift: {compatibility: {acceptschema2: false}}", "c.yml:3: openshift.compatibility.acceptschema2: Docker schema 2 is always accepted"},
	} {
		c, _, err := Parse("c.yml", []byte(row.yaml), nil)
		if got := strings.Join(lines(err), "|"); got != row.want || c != nil {
			t.Errorf("%s\n got %s\nwant %s", row.yaml, got, row.want)
		}
	}
}

func TestWarnings(t *testing.T) {
	for _, row := range []struct{ yaml, want string }{
		{minimal + "loglevel: debug", "c.yml:3: loglevel: is an old name of log.level"},
		{minimal + "http: {draintimeout: 5000000000}", "c.yml:3: http.draintimeout: 5000000000 without a unit is in nanoseconds; write 5s"},
		{minimal + "metrics:\n  secret: guess", "c.yml:4: metrics.secret: is short: who guesses it reads the metrics; take 12 characters or more"},
		{minimal + "redis: {addrs: [a]}", "c.yml:3: redis: ignored: Berth needs no Redis, also with several replicas"},
		{minimal + "validation: {enabled: false}", "c.yml:3: validation.enabled: ignored: write validation.disabled to turn it off"},
		{"version: 0.1\nstorage:\n  filesystem:\n    maxthreads: 100\n  cache: {blobdescriptor: redis}\n  tag: {concurrencylimit: 4}",
			"c.yml:4: storage.filesystem.maxthreads: ignored: Berth needs no limit on its threads|" +
				"c.yml:5: storage.cache.blobdescriptor: ignored: records are kept in memory; see storage.cache.size|" +
				"c.yml:6: storage.tag: ignored: no request searches all tags"},
		{minimal + "auth: {oidc: {issuers: [{url: 'https://id', audiences: [r]}, {url: 'https://ci', audiences: [r], conditions: {repository: ['acme/*']}}]}}",
			`c.yml:3: auth.oidc.issuers[0]: everybody for whom "https://id" has a token is let in, and has the rights of whoever ` +
				"is logged in; if that is not meant, write conditions, or bindings of users and groups"},
		{minimal + "auth: {oidc: {issuers: [{url: 'https://gitlab.com', audiences: [r], conditions: {namespace_path: [acme]}}]}}", ""},
		{minimal + "auth: {oidc: {issuers: [{url: 'https://gitlab.com', audiences: [r]}]}}\n" +
			"authorization: {bindings: [{subjects: ['user:project_path:acme/app'], roles: [registry-viewer], repositories: ['**']}]}", ""},
	} {
		_, warnings, err := Parse("c.yml", []byte(row.yaml), nil)
		if got := strings.Join(texts(warnings), "|"); got != row.want || err != nil {
			t.Errorf("%s\n got %s, %v\nwant %s", row.yaml, got, err, row.want)
		}
	}
}

func TestOldLogLevel(t *testing.T) {
	for yaml, want := range map[string]string{
		"loglevel: debug":                      "debug",
		"loglevel: debug\nlog:":                "debug",
		"loglevel: debug\nlog: {level: error}": "error",
		"loglevel: debug\nlog: {level: }":      "debug",
	} {
		c, _, err := Parse("c.yml", []byte(minimal+yaml), nil)
		if err != nil || c.Log.Level != want {
			t.Errorf("%s: %+v, %v", yaml, c, err)
		}
	}
}

func TestErrorsAreBounded(t *testing.T) {
	var yaml strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&yaml, "%s%d: x\n", strings.Repeat("k", 200), i)
	}
	_, _, err := Parse("c.yml", []byte(yaml.String()), nil)
	if n := len(lines(err)); n != 100 {
		t.Errorf("%d errors", n)
	}
	var one *Error
	if !errors.As(err, &one) || one.Source != "c.yml:1" {
		t.Errorf("the first error is %v", one)
	}
}

func TestLoad(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yml")
	if _, _, err := Load(file, nil); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), file) {
		t.Errorf("a missing file: %v", err)
	}
	if err := os.WriteFile(file, []byte(minimal), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _, err := Load(file, nil)
	if err != nil || c.Source("storage.inmemory") != file+":2" {
		t.Errorf("%v, %v", c, err)
	}
	if err := os.WriteFile(file, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Load(file, nil); err == nil || !strings.Contains(err.Error(), "larger than 1MiB") {
		t.Errorf("a large file: %v", err)
	}
}

func TestPath(t *testing.T) {
	there := filepath.Join(t.TempDir(), "config.yml")
	if err := os.WriteFile(there, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	environ := []string{"X=1", pathVariable + "=/from/variable.yml"}
	for _, row := range []struct {
		arg     string
		environ []string
		want    string
	}{
		{"/from/argument.yml", environ, "/from/argument.yml"},
		{"", environ, "/from/variable.yml"},
		{"", []string{pathVariable + "="}, there},
		{"", nil, there},
	} {
		got, err := Path(row.arg, row.environ, []string{there + "-not", there, "/"})
		if got != row.want || err != nil {
			t.Errorf("Path(%q, %q) = %q, %v", row.arg, row.environ, got, err)
		}
	}
	if _, err := Path("", nil, []string{there + "-not"}); err == nil || !strings.Contains(err.Error(), there+"-not") {
		t.Errorf("without any: %v", err)
	}
	if paths := DefaultPaths(); len(paths) != 3 || paths[0] != "/etc/berth/config.yml" {
		t.Errorf("default paths are %q", paths)
	}
}

// TestSchema holds what the walkers rely on: tags that parse, and only types they know.
func TestSchema(t *testing.T) {
	strict.Keys(schema.Section, "", func(path string, f strict.Field) {
		if f.Key == "" || f.Key != strings.ToLower(f.Key) {
			t.Errorf("%s: key %q", path, f.Key)
		}
		for _, tag := range []string{f.Initial, f.Min} {
			if tag != "" {
				if err := strict.SetText(reflect.New(f.Type).Elem(), tag); err != nil {
					t.Errorf("%s: tag %q: %v", path, tag, err)
				}
			}
		}
		typ := f.Type
		for typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map {
			typ = typ.Elem()
		}
		if _, ok := strict.SectionType(typ); !ok {
			if err := strict.SetText(reflect.New(typ).Elem(), "1"); err != nil && strings.Contains(err.Error(), "not a type") {
				t.Errorf("%s: %v", path, err)
			}
		}
		if _, ok := strict.SectionType(f.Type); !ok && f.Initial == "" && f.Example == "" && !strings.Contains(path, "[]") {
			t.Errorf("%s has neither a default nor an example", path)
		}
		doc, err := schema.Parse("c.yml", nil)
		if err != nil {
			t.Fatal(err)
		}
		variable := schema.VariableOf(path)
		doc.Override([]string{variable + "={}"}, nil)
		if got := doc.Decode(&Config{})[strings.ReplaceAll(path, "[]", "[0]")]; got != variable && !slices.Contains(schema.NotKeys, variable) {
			t.Errorf("%s does not set %s: it is from %q", variable, path, got)
		}
	})
}

// TestForeignKeys holds that no row of the table lies under or over a key that is implemented, and that each is
// reachable from a file and from a variable.
func TestForeignKeys(t *testing.T) {
	implemented := map[string]bool{}
	strict.Keys(schema.Section, "", func(path string, _ strict.Field) { implemented[path] = true })
	seen := map[string]bool{}
	for _, f := range foreignKeys {
		if implemented[f.Key] || seen[f.Key] || f.Why == "" {
			t.Errorf("%s is implemented, a duplicate, or has no reason", f.Key)
		}
		seen[f.Key] = true
		yaml := "asks"
		for key := range strings.SplitSeq(reversed(f.Key), ".") {
			yaml = "{" + key + ": " + yaml + "}"
		}
		file := map[strict.Verdict]string{strict.Accepted: "", strict.Ignored: "c.yml:1: " + f.Key + ": ignored: ", strict.Refused: "c.yml:1: " + f.Key + ": "}
		_, warnings, err := Parse("c.yml", []byte(yaml), nil)
		if got := fmt.Sprint(texts(warnings), err); !strings.Contains(got, file[f.Verdict]+f.Why) == (f.Verdict != strict.Accepted) {
			t.Errorf("%s: %s", yaml, got)
		}
		name := schema.VariableOf(f.Key)
		_, warnings, err = Parse("c.yml", nil, []string{name + "=asks"})
		if got := fmt.Sprint(texts(warnings), err); !strings.Contains(got, name+": "+f.Key) == (f.Verdict != strict.Accepted) {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func reversed(path string) string {
	parts := strings.Split(path, ".")
	for i, j := 0, len(parts)-1; i < j; i, j = i+1, j-1 {
		parts[i], parts[j] = parts[j], parts[i]
	}
	return strings.Join(parts, ".")
}

// TestSendsToTokenEndpoint: where everybody may do something, or always, or never.
func TestSendsToTokenEndpoint(t *testing.T) {
	const bindings = "\nauthorization: {bindings: [{subjects: [SUBJECT], roles: [registry-viewer], repositories: ['**']}]}"
	for yaml, want := range map[string]bool{
		"none": false,
		"{anonymous: [pull], tokenendpoint: {mode: auto}}":                                                                false,
		"{htpasswd: {path: p}}":                                                                                           false,
		"{htpasswd: {path: p}, anonymous: [pull]}":                                                                        true,
		"{htpasswd: {path: p}, anonymous: []}":                                                                            false,
		"{htpasswd: {path: p}, tokenendpoint: {mode: always}}":                                                            true,
		"{htpasswd: {path: p}, anonymous: [pull], tokenendpoint: {mode: never}}":                                          false,
		"{htpasswd: {path: p}}" + strings.ReplaceAll(bindings, "SUBJECT", "anonymous"):                                    true,
		"{htpasswd: {path: p}}" + strings.ReplaceAll(bindings, "SUBJECT", "authenticated"):                                false,
		"{oidc: {issuers: [{url: 'https://id', audiences: [r], conditions: {a: [b]}}]}, anonymous: [pull]}":               true,
		"{htpasswd: {path: p}, anonymous: [pull], token: {realm: 'https://a', service: s, issuer: i, rootcertbundle: b}}": false,
	} {
		if c := mustParse(t, minimal+"auth: "+yaml); c.SendsToTokenEndpoint() != want {
			t.Errorf("%s: got %t", yaml, !want)
		}
	}
}
