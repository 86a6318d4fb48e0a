package configuration

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

const onDisk = `version: 0.1
storage:
  filesystem:
    rootdirectory: /srv
  delete: {enabled: true}
  cache: {size: 1MiB}
http:
  addr: :5000
  headers: {X-Content-Type-Options: [nosniff]}
validation:
  manifests:
    urls: {allow: [a, b]}
    indexes: {platforms: list, platformlist: [{architecture: amd64, os: linux}]}
`

// TestVariables has what variables make of the file onDisk without a warning.
func TestVariables(t *testing.T) {
	for _, row := range []struct {
		name    string
		environ []string
		want    func(c *Config) bool
	}{
		{"others are left alone", []string{"REGISTRY=x", "HOME=/", "registry_http_addr=x"},
			func(c *Config) bool { return c.HTTP.Addr == ":5000" }},
		{"the file's name and a release are no keys", []string{"REGISTRY_CONFIGURATION_PATH=/x", "REGISTRY_VERSION=2.8.3"},
			func(c *Config) bool { return c.Version == "0.1" }},
		{"scalars", []string{"REGISTRY_HTTP_ADDR=:81", "REGISTRY_HTTP_DRAINTIMEOUT= 1m ", "REGISTRY_TAGS_MAXTAGS='7'",
			"REGISTRY_STORAGE_CACHE_SIZE=2MiB", "REGISTRY_HTTP_RELATIVEURLS=yes", "REGISTRY_LOG_LEVEL=debug"},
			func(c *Config) bool {
				return c.HTTP.Addr == ":81" && c.HTTP.DrainTimeout == time.Minute && c.Tags.MaxTags == 7 &&
					c.Storage.Cache.Size == 2<<20 && c.HTTP.RelativeURLs && c.Log.Level == "debug"
			}},
		{"the last of two counts", []string{"REGISTRY_HTTP_ADDR=:81", "REGISTRY_HTTP_ADDR=:82"},
			func(c *Config) bool { return c.HTTP.Addr == ":82" }},
		{"an empty text", []string{"REGISTRY_HTTP_HOST="}, func(c *Config) bool { return c.HTTP.Host == "" }},
		{"readonly without its block", []string{"REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED=true"},
			func(c *Config) bool {
				return c.Storage.Maintenance.ReadOnly.Enabled && c.Storage.Maintenance.UploadPurging.Enabled
			}},
		{"a section as YAML", []string{"REGISTRY_STORAGE_MAINTENANCE={readonly: {enabled: true}}"},
			func(c *Config) bool { return c.Storage.Maintenance.ReadOnly.Enabled }},
		{"a header keeps its case", []string{"REGISTRY_HTTP_HEADERS_Access-Control-Allow-Origin=['*']"},
			func(c *Config) bool {
				return reflect.DeepEqual(c.HTTP.Headers, map[string][]string{
					"X-Content-Type-Options": {"nosniff"}, "Access-Control-Allow-Origin": {"*"}})
			}},
		{"a key that is there", []string{"REGISTRY_HTTP_HEADERS_X-CONTENT-TYPE-OPTIONS=[a, b]"},
			func(c *Config) bool {
				return reflect.DeepEqual(c.HTTP.Headers, map[string][]string{"X-Content-Type-Options": {"a", "b"}})
			}},
		{"a new key in capitals", []string{"REGISTRY_LOG_FIELDS_SERVICE_NAME=0123"},
			func(c *Config) bool { return c.Log.Fields["service_name"] == "0123" }},
		{"indices in a map of lists", []string{"REGISTRY_HTTP_HEADERS_X-A_0=a", "REGISTRY_HTTP_HEADERS_X-A_1=b"},
			func(c *Config) bool { return reflect.DeepEqual(c.HTTP.Headers["x-a"], []string{"a", "b"}) }},
		{"a list", []string{"REGISTRY_VALIDATION_MANIFESTS_URLS_ALLOW=[c]"},
			func(c *Config) bool { return reflect.DeepEqual(c.Validation.Manifests.URLs.Allow, []string{"c"}) }},
		{"indices replace and append", []string{"REGISTRY_VALIDATION_MANIFESTS_URLS_ALLOW_2=c", "REGISTRY_VALIDATION_MANIFESTS_URLS_ALLOW_0=x"},
			func(c *Config) bool {
				return reflect.DeepEqual(c.Validation.Manifests.URLs.Allow, []string{"x", "b", "c"})
			}},
		{"indices are in the order of numbers", elements(12), func(c *Config) bool {
			deny := c.Validation.Manifests.URLs.Deny
			return len(deny) == 12 && deny[2] == "x2" && deny[11] == "x11"
		}},
		{"indices of sections", []string{"REGISTRY_VALIDATION_MANIFESTS_INDEXES_PLATFORMLIST_0_OS=windows",
			"REGISTRY_VALIDATION_MANIFESTS_INDEXES_PLATFORMLIST_1_OS=linux", "REGISTRY_VALIDATION_MANIFESTS_INDEXES_PLATFORMLIST_1_ARCHITECTURE=arm64"},
			func(c *Config) bool {
				return reflect.DeepEqual(c.Validation.Manifests.Indexes.PlatformList, []Platform{{"amd64", "windows"}, {"arm64", "linux"}})
			}},
		{"switch the driver", []string{"REGISTRY_STORAGE=inmemory"}, func(c *Config) bool {
			return c.Storage.InMemory != nil && c.Storage.Filesystem == nil && c.Storage.Delete.Enabled && c.Storage.Cache.Size == 1<<20
		}},
		{"name the driver that is there", []string{"REGISTRY_STORAGE=filesystem", "REGISTRY_STORAGE_FILESYSTEM_SHARED=true"},
			func(c *Config) bool {
				return *c.Storage.Filesystem == Filesystem{RootDirectory: "/srv", Shared: true, LockWait: 30 * time.Second}
			}},
		{"switch the driver by its keys", []string{"REGISTRY_STORAGE_EMPTYDIR_ROOTDIRECTORY=/x", "REGISTRY_STORAGE_EMPTYDIR_SIZELIMIT=1GB"},
			func(c *Config) bool {
				return c.Storage.Filesystem == nil && *c.Storage.EmptyDir == EmptyDir{"/x", 1e9} && c.Storage.Delete.Enabled
			}},
		{"switch the driver by an empty section", []string{"REGISTRY_STORAGE_INMEMORY="}, func(c *Config) bool {
			return c.Storage.Filesystem == nil && c.Storage.InMemory != nil
		}},
		{"replace the section", []string{"REGISTRY_STORAGE={inmemory: {}}"}, func(c *Config) bool {
			return c.Storage.Filesystem == nil && c.Storage.InMemory != nil && !c.Storage.Delete.Enabled
		}},
		{"auth: none", []string{"REGISTRY_AUTH=none"}, func(c *Config) bool { return c.Auth.None != nil }},
		{"auth: htpasswd as distribution's examples have it", []string{"REGISTRY_AUTH=htpasswd", "REGISTRY_AUTH_HTPASSWD_REALM=r",
			"REGISTRY_AUTH_HTPASSWD_PATH=/p"}, func(c *Config) bool { return c.Auth.None == nil && *c.Auth.HTPasswd == HTPasswd{"r", "/p"} }},
		{"auth: token as distribution's examples have it", []string{"REGISTRY_AUTH=token", "REGISTRY_AUTH_TOKEN_REALM=https://a/token",
			"REGISTRY_AUTH_TOKEN_SERVICE=s", "REGISTRY_AUTH_TOKEN_ISSUER=i", "REGISTRY_AUTH_TOKEN_ROOTCERTBUNDLE=/p"},
			func(c *Config) bool {
				return c.Auth.Token.RootCertBundle == "/p" && c.Auth.Token.Refresh == 5*time.Minute && c.Auth.Configured()
			}},
		{"auth: an issuer", []string{"REGISTRY_AUTH_OIDC_ISSUERS_0_URL=https://a", "REGISTRY_AUTH_OIDC_ISSUERS_0_AUDIENCES_0=b",
			"REGISTRY_AUTH_OIDC_ISSUERS_0_CONDITIONS={ref: [main]}"},
			func(c *Config) bool { return c.Auth.OIDC.Issuers[0].User == "sub" && c.Auth.Configured() }},
		{"auth: several", []string{"REGISTRY_AUTH_HTPASSWD_PATH=/p", "REGISTRY_AUTH_ANONYMOUS_0=pull"},
			func(c *Config) bool { return c.Auth.HTPasswd.Path == "/p" && c.Auth.Anonymous[0] == "pull" }},
		{"auth: none as a section", []string{"REGISTRY_AUTH_NONE={}"}, func(c *Config) bool { return c.Auth.None != nil }},
		{"the old name of the level", []string{"REGISTRY_LOGLEVEL=warn"}, func(c *Config) bool { return c.Log.Level == "warn" }},
		{"the old and the new name", []string{"REGISTRY_LOGLEVEL=warn", "REGISTRY_LOG_LEVEL=error"},
			func(c *Config) bool { return c.Log.Level == "error" }},
		{"a service called registry", []string{"REGISTRY_PORT=tcp://10.0.0.1:5000", "REGISTRY_PORT_5000_TCP=tcp://10.0.0.1:5000",
			"REGISTRY_PORT_5000_TCP_PROTO=tcp", "REGISTRY_PORT_5000_TCP_PORT=5000", "REGISTRY_PORT_5000_TCP_ADDR=10.0.0.1",
			"REGISTRY_SERVICE_HOST=10.0.0.1", "REGISTRY_SERVICE_PORT=5000", "REGISTRY_SERVICE_PORT_HTTP=5000",
			"REGISTRY_PROXY_SERVICE_HOST=10.0.0.2", "REGISTRY_PROXY_PORT=tcp://10.0.0.2:80"},
			func(c *Config) bool { return c.HTTP.Addr == ":5000" }},
		{"what asks for nothing", []string{"REGISTRY_PROXY_REMOTEURL=", "REGISTRY_HTTP_TLS_CERTIFICATE=", "REGISTRY_OPENSHIFT_QUOTA_ENABLED=false"},
			func(c *Config) bool { return true }},
	} {
		t.Run(row.name, func(t *testing.T) {
			if c := mustParse(t, onDisk, row.environ...); !row.want(c) {
				t.Errorf("read as %+v", c)
			}
		})
	}
}

func elements(n int) []string {
	var all []string
	for i := range n {
		index := string(rune('0' + i%10))
		if i >= 10 {
			index = "1" + index
		}
		all = append(all, "REGISTRY_VALIDATION_MANIFESTS_URLS_DENY_"+index+"=x"+index)
	}
	return all
}

func TestLiteralTexts(t *testing.T) {
	const bucket = "version: 0.1\nstorage: {s3: {bucket: b, region: r, accesskey: k}}\n"
	for _, text := range []string{
		"0123", "*star", "&and", "!bang", "%percent", "@at", "`tick", "a: b", "a #b", "{x", "[x", " x ", "null", "~", "true", "1e3",
		`"`, `'`, `"a`, `it's`, "a\nb", "- x", "ünï",
	} {
		c := mustParse(t, bucket, "REGISTRY_LOG_FIELDS_A="+text, "REGISTRY_STORAGE_S3_SECRETKEY="+text)
		if field, secret := c.Log.Fields["a"], c.Storage.S3.SecretKey.Reveal(); field != text || secret != text {
			t.Errorf("%q became %q, as a secret %q", text, field, secret)
		}
	}
	for text, want := range map[string]string{`"0123"`: "0123", `'a''b'`: "a'b", `"a\tb"`: "a\tb", `'a'b'`: `'a'b'`} {
		c := mustParse(t, bucket, "REGISTRY_LOG_FIELDS_A="+text, "REGISTRY_STORAGE_S3_SECRETKEY="+text)
		if field, secret := c.Log.Fields["a"], c.Storage.S3.SecretKey.Reveal(); field != want || secret != want {
			t.Errorf("%q became %q, as a secret %q, want %q", text, field, secret, want)
		}
	}
}

func TestRefusedVariables(t *testing.T) {
	for _, row := range []struct {
		environ []string
		want    string
	}{
		{[]string{"REGISTRY_LOG_LEVEL=trace"}, `REGISTRY_LOG_LEVEL: log.level: must be one of error, warn, info, debug, not "trace"`},
		{[]string{"OPENSHIFT_REGISTRY_HTTP_TLS_CIPHERSUITES=TLS_AES_128_GCM_SHA256"},
			`OPENSHIFT_REGISTRY_HTTP_TLS_CIPHERSUITES: is of another registry: its list is http.tls.ciphersuites here (REGISTRY_HTTP_TLS_CIPHERSUITES)`},
		{[]string{"REGISTRY_HTTP_TLS_MINVERSION=VersionTLS13"},
			`REGISTRY_HTTP_TLS_MINVERSION: http.tls.minversion: write http.tls.minimumtls: tls1.3`},
		{[]string{"REGISTRY_TAGS_MAXTAGS="}, `REGISTRY_TAGS_MAXTAGS: tags.maxtags: must be a whole number, not ""`},
		{[]string{"REGISTRY_HTTP_ADDR=x"}, `REGISTRY_HTTP_ADDR: http.addr: must be host:port such as 127.0.0.1:5000 or :5000, not "x"`},
		{[]string{"REGISTRY_VALIDATION_MANIFESTS_URLS_ALLOW=a,b"},
			`REGISTRY_VALIDATION_MANIFESTS_URLS_ALLOW: validation.manifests.urls.allow: must be a list such as [a, b], not "a,b"`},
		{[]string{"REGISTRY_VALIDATION_MANIFESTS_URLS_ALLOW=*"},
			`REGISTRY_VALIDATION_MANIFESTS_URLS_ALLOW: not valid YAML; write a list as [a, b], a section as {key: value}`},
		{[]string{"REGISTRY_VALIDATION_MANIFESTS_URLS_ALLOW_3=x"},
			`REGISTRY_VALIDATION_MANIFESTS_URLS_ALLOW_3: the list has 2 elements, so the next index is 2, not 3`},
		{[]string{"REGISTRY_HTTP={addr: ':1', adr: x}"}, `REGISTRY_HTTP: http.adr: unknown key; the nearest is http.addr`},
		{[]string{"REGISTRY_STORAGE=tape"}, `REGISTRY_STORAGE: storage.tape: unknown key; the nearest is storage.tag|` +
			`REGISTRY_STORAGE: storage: must have one of filesystem, inmemory, emptydir, s3, gcs, azure`},
		{[]string{"REGISTRY_STORAGE=oss", "REGISTRY_STORAGE_OSS_BUCKET=b"}, `REGISTRY_STORAGE: storage.oss: there is no OSS storage`},
		{[]string{"REGISTRY_STORAGE_OSS_BUCKET=b"}, `REGISTRY_STORAGE_OSS_BUCKET: storage.oss: there is no OSS storage`},
		{[]string{"REGISTRY_STORAGE_EMPTYDIR_SIZELIMIT=1", "REGISTRY_STORAGE_FILESYSTEM_SHARED=true"}, `REGISTRY_STORAGE_FILESYSTEM_SHARED: ` +
			`is for filesystem, but REGISTRY_STORAGE_EMPTYDIR_SIZELIMIT is for emptydir; choose one by REGISTRY_STORAGE`},
		{[]string{"REGISTRY_AUTH="}, "REGISTRY_AUTH: is empty, which would remove the section; unset it, or name one of " +
			"none, openshift, silly"},
		{[]string{"REGISTRY_AUTH=htpasswd", "REGISTRY_AUTH_HTPASSWD_REALM=x"},
			"REGISTRY_AUTH: auth.htpasswd.path: must be the path of a file of users; `berth user add` makes one"},
		{[]string{"REGISTRY_HTTP_TLS_KEY=x"}, `REGISTRY_HTTP_TLS_KEY: http.tls.certificate: must be the path of a file, since there is a key`},
		{[]string{"REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL=http://x"},
			`REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL: notifications.endpoints: not implemented in this version: its endpoints would wait for events in vain`},
		{[]string{"REGISTRY_HEALTH_TCPCHECKERS_0_ADDR=/x"},
			`REGISTRY_HEALTH_TCPCHECKERS_0_ADDR: health.tcp[0].addr: must be host:port such as 10.0.0.1:636, not "/x"`},
		{[]string{"REGISTRY_OPENSHIFT_COMPATIBILITY={acceptschema2: false}"},
			`REGISTRY_OPENSHIFT_COMPATIBILITY: openshift.compatibility.acceptschema2: Docker schema 2 is always accepted`},
		{[]string{"REGISTRY_HTTP_HOST=\xff"}, `REGISTRY_HTTP_HOST: is not UTF-8`},
	} {
		_, _, err := Parse("c.yml", []byte(onDisk), row.environ)
		if got := strings.Join(lines(err), "|"); got != row.want {
			t.Errorf("%q\n got %s\nwant %s", row.environ, got, row.want)
		}
	}
}

func TestVariablesThatWarn(t *testing.T) {
	for _, row := range []struct {
		environ []string
		want    string
	}{
		{[]string{"REGISTRY_HTTP_ADRESS=x"}, "REGISTRY_HTTP_ADRESS: unknown variable; the nearest is REGISTRY_HTTP_ADDR"},
		{[]string{"REGISTRY_HTTP_=x"}, "REGISTRY_HTTP_: unknown variable; the nearest is REGISTRY_HTTP"},
		{[]string{"REGISTRY_PORT=5000"}, "REGISTRY_PORT: unknown variable; the nearest is REGISTRY_LOG"},
		{[]string{"REGISTRY_STORAGE_DELETE_ENABLED_FILE=/x"},
			"REGISTRY_STORAGE_DELETE_ENABLED_FILE: unknown variable; the nearest is REGISTRY_STORAGE_DELETE_ENABLED"},
		{[]string{"REGISTRY_A\nB=x"}, `"REGISTRY_A\nB": ignored: no key has such a name`},
		{[]string{"REGISTRY_NOTIFICATIONS_EVENTCONFIG_INCLUDEREFERENCES=true"},
			"REGISTRY_NOTIFICATIONS_EVENTCONFIG_INCLUDEREFERENCES: notifications.events: ignored: there are no notifications in this version"},
		{[]string{"REGISTRY_REDIS_ADDRS_0=a", "REGISTRY_REDIS_OPTIONS_PASSWORD=*hush"},
			"REGISTRY_REDIS_ADDRS_0: redis: ignored: Berth needs no Redis, also with several replicas"},
		{[]string{"REGISTRY_STORAGE=inmemory", "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=/x"},
			"REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY: ignored, since REGISTRY_STORAGE chooses inmemory"},
		{[]string{"REGISTRY_HTTP_DRAINTIMEOUT=5000000000"},
			"REGISTRY_HTTP_DRAINTIMEOUT: http.draintimeout: 5000000000 without a unit is in nanoseconds; write 5s"},
	} {
		_, warnings, err := Parse("c.yml", []byte(onDisk), row.environ)
		if got := strings.Join(texts(warnings), "|"); got != row.want || err != nil {
			t.Errorf("%q\n got %s, %v\nwant %s", row.environ, got, err, row.want)
		}
	}
}

func TestSecretFiles(t *testing.T) {
	const hush = "a secret of thirty-two characters"
	dir := t.TempDir()
	for name, content := range map[string]string{"unix": hush + "\n", "dos": hush + "\r\n", "none": hush, "two": hush + "\n\n", "empty": "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"unix": hush, "dos": hush, "none": hush, "two": hush + "\n"} {
		c := mustParse(t, minimal, "REGISTRY_HTTP_SECRET_FILE="+filepath.Join(dir, name))
		if c.HTTP.Secret.Reveal() != want || c.Source("http.secret") != "REGISTRY_HTTP_SECRET_FILE" {
			t.Errorf("%s: %q from %s", name, c.HTTP.Secret.Reveal(), c.Source("http.secret"))
		}
	}
	if c := mustParse(t, minimal+"http: {secret: another secret of 32 characters}", "REGISTRY_HTTP_SECRET_FILE="+filepath.Join(dir, "unix")); c.HTTP.Secret.Reveal() != hush {
		t.Error("the variable does not override the file")
	}
	for _, row := range []struct {
		environ []string
		want    string
	}{
		{[]string{"REGISTRY_HTTP_SECRET_FILE=" + dir + "/not"},
			"REGISTRY_HTTP_SECRET_FILE: http.secret: read the file it names: open " + dir + "/not: no such file or directory"},
		{[]string{"REGISTRY_HTTP_SECRET_FILE=" + dir + "/empty"}, `REGISTRY_HTTP_SECRET_FILE: http.secret: "` + dir + `/empty" is empty`},
		{[]string{"REGISTRY_HTTP_SECRET_FILE=" + dir + "/unix", "REGISTRY_HTTP_SECRET=" + hush},
			"REGISTRY_HTTP_SECRET_FILE: REGISTRY_HTTP_SECRET is set too; keep one"},
	} {
		_, _, err := Parse("c.yml", []byte(minimal), row.environ)
		if err == nil || err.Error() != row.want {
			t.Errorf("%q: %v", row.environ, err)
		}
	}
}

// FuzzEnviron takes lines as variables. Whatever they are, each error is one line with a source, a secret is not
// printed, and what was accepted can be shown and read again.
func FuzzEnviron(f *testing.F) {
	f.Add("HTTP_ADDR=:1\nHTTP_SECRET=hush-hush-hush-hush-hush-hush-hush\nSTORAGE=emptydir\nSTORAGE_EMPTYDIR_SIZELIMIT=1")
	f.Add("LOG_FIELDS_A=b\nHTTP_HEADERS_X_0=y\nHTTP_HEADERS_X={\nVALIDATION_MANIFESTS_INDEXES_PLATFORMLIST_0_OS=x")
	f.Add("OPENSHIFT={}\nREDIS_OPTIONS=1\nPORT=tcp://\nLOGLEVEL=info\nAUTH=none\nAUTH_NONE=\nAUTH_TOKEN_X=1\nSTORAGE_S3=")
	f.Add("HTTP_SECRET_FILE=x\nSTORAGE={s3: {a: b}}\nSTORAGE_S3_X=1\nSTORAGE_MAINTENANCE_READONLY_ENABLED=true")
	f.Fuzz(func(t *testing.T, input string) {
		var environ []string
		for line := range strings.SplitSeq(input, "\n") {
			environ = append(environ, prefix+line)
		}
		read := func(string) ([]byte, error) { return nil, errors.New("no files here") }
		c, warnings, err := parse("c.yml", []byte(onDisk), environ, read)
		checkOutcome(t, c, warnings, err)
	})
}
