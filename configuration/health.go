package configuration

import (
	"maps"
	"net/url"
	"slices"
	"time"

	"berth/configuration/strict"
)

// Health is the section health. What fails is told by `/readyz`; `/` and `/healthz` answer as long as the process serves.
type Health struct {
	// The storage, without which the registry is not ready.
	StorageDriver StorageHealth `yaml:"storagedriver"`
	// With less room than this, changes other than deletes are refused, before it is full. Of a storage with a folder;
	// elsewhere, and with 0, they are refused when it is full.
	MinFreeSpace Size `yaml:"minfreespace" default:"0"`
	// Files that take the registry out of service while they exist: all requests are answered 503.
	File []FileHealth `yaml:"file" example:"[{file: /run/berth/out-of-service, interval: 10s}]"`
	// URLs without which the registry is out of service.
	HTTP []HTTPHealth `yaml:"http" example:"[{uri: 'https://auth.example.com/healthz', headers: {}, statuscode: 200, timeout: 5s, interval: 10s, threshold: 3}]"`
	// TCP addresses without which the registry is out of service.
	TCP []TCPHealth `yaml:"tcp" example:"[{addr: '10.0.0.1:636', timeout: 5s, interval: 10s, threshold: 3}]"`
}

// StorageHealth is the section health.storagedriver.
type StorageHealth struct {
	// Looks at the storage. Without it, `/readyz` does not tell of one that fails.
	Enabled bool `yaml:"enabled" default:"true"`
	// The time between two looks. While it fails, and when a request failed for it, it is looked at sooner.
	Interval time.Duration `yaml:"interval" default:"10s" min:"100ms"`
	// How many looks in a row must fail before that counts; 0 is 1.
	Threshold int `yaml:"threshold" default:"0"`
}

// FileHealth is an element of health.file.
type FileHealth struct {
	// The path. It must be given.
	File string `yaml:"file"`
	// The time between two looks.
	Interval time.Duration `yaml:"interval" default:"10s" min:"100ms"`
	// How many looks in a row must find it before that counts; 0 is 1.
	Threshold int `yaml:"threshold" default:"0"`
}

// HTTPHealth is an element of health.http.
type HTTPHealth struct {
	// The URL, which is sent a HEAD request. It must be given. It may hold a password.
	URI Secret `yaml:"uri"`
	// Headers of the request.
	Headers map[string][]Secret `yaml:"headers"`
	// The status that it must answer.
	StatusCode int `yaml:"statuscode" default:"200" min:"100"`
	// How long an answer may take.
	Timeout time.Duration `yaml:"timeout" default:"5s" min:"10ms"`
	// The time between two requests.
	Interval time.Duration `yaml:"interval" default:"10s" min:"100ms"`
	// How many in a row must fail before that counts; 0 is 1.
	Threshold int `yaml:"threshold" default:"0"`
}

// TCPHealth is an element of health.tcp.
type TCPHealth struct {
	// The address, host:port. It must be given.
	Addr string `yaml:"addr"`
	// How long a connection may take.
	Timeout time.Duration `yaml:"timeout" default:"5s" min:"10ms"`
	// The time between two connections.
	Interval time.Duration `yaml:"interval" default:"10s" min:"100ms"`
	// How many in a row must fail before that counts; 0 is 1.
	Threshold int `yaml:"threshold" default:"0"`
}

func (f FileHealth) check(c strict.Checking) {
	if f.File == "" {
		c.Fail("file", "must be the path of a file")
	}
}

func (h HTTPHealth) check(c strict.Checking) {
	if u, err := url.Parse(h.URI.Reveal()); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		c.Fail("uri", "must be a URL such as https://auth.example.com/healthz")
	}
	for _, name := range slices.Sorted(maps.Keys(h.Headers)) {
		if !headerName.MatchString(name) {
			c.Fail("headers", "%s is not the name of a header", strict.Quote(name))
		}
	}
	if h.StatusCode > 599 {
		c.Fail("statuscode", "must be a status such as 200, not %d", h.StatusCode)
	}
}

// Header returns the headers of the request.
func (h HTTPHealth) Header() map[string][]string {
	header := make(map[string][]string)
	for name, values := range h.Headers {
		for _, value := range values {
			header[name] = append(header[name], value.Reveal())
		}
	}
	return header
}

func (t TCPHealth) check(c strict.Checking) {
	if !isAddress(t.Addr) {
		c.Fail("addr", "must be host:port such as 10.0.0.1:636, not %s", strict.Quote(t.Addr))
	}
}
