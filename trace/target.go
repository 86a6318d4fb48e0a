package trace

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// A target is where spans are sent.
type target struct {
	url     string
	headers http.Header
	client  *http.Client
}

const prefix = "OTEL_EXPORTER_OTLP_"

// targetOf reads the variables of the OpenTelemetry protocol exporter; nil means that nothing is sent.
func targetOf(getenv func(string) string) (*target, error) {
	of := func(name string) string { return cmp.Or(getenv(prefix+"TRACES_"+name), getenv(prefix+name)) }
	which := getenv("OTEL_TRACES_EXPORTER")
	endpoint := getenv(prefix + "TRACES_ENDPOINT")
	if base := getenv(prefix + "ENDPOINT"); endpoint == "" && base != "" {
		endpoint = strings.TrimSuffix(base, "/") + "/v1/traces"
	}
	switch {
	case strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true"), which == "none", which == "" && endpoint == "":
		return nil, nil
	case which != "" && which != "otlp":
		return nil, fmt.Errorf("OTEL_TRACES_EXPORTER must be otlp or none, not %q", which)
	}
	if p := of("PROTOCOL"); p != "" && p != "http/json" && p != "http/protobuf" {
		return nil, fmt.Errorf("%sPROTOCOL must be http/json, not %q", prefix, p)
	}
	endpoint = cmp.Or(endpoint, "http://localhost:4318/v1/traces")
	if u, err := url.Parse(endpoint); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New(prefix + "ENDPOINT must be a URL such as http://localhost:4318")
	}
	headers, err := headersOf(of("HEADERS"))
	if err != nil {
		return nil, err
	}
	timeout := 10 * time.Second
	if text := of("TIMEOUT"); text != "" {
		millis, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return nil, fmt.Errorf("%sTIMEOUT must be milliseconds, not %q", prefix, text)
		}
		timeout = time.Duration(millis) * time.Millisecond
	}
	transport, err := transportOf(of("CERTIFICATE"))
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: transport, Timeout: timeout, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // the headers are for this host alone
	}}
	return &target{endpoint, headers, client}, nil
}

// headersOf reads a list such as key=value,key2=value2 of percent-encoded values. Its error does not have them: they are secrets.
func headersOf(list string) (http.Header, error) {
	headers := http.Header{}
	for pair := range strings.SplitSeq(list, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		decoded, err := url.PathUnescape(strings.TrimSpace(value))
		if !ok || err != nil || strings.ContainsAny(decoded, "\r\n\x00") {
			return nil, errors.New(prefix + "HEADERS must be a list such as key=value,key2=value2")
		}
		headers.Set(strings.TrimSpace(name), decoded)
	}
	return headers, nil
}

// transportOf trusts the authorities in a PEM file, those of the system without one.
func transportOf(file string) (*http.Transport, error) {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute}
	if file == "" {
		return transport, nil
	}
	roots := x509.NewCertPool()
	text, err := os.ReadFile(file)
	if err == nil && !roots.AppendCertsFromPEM(text) {
		err = errors.New("there is no certificate in it")
	}
	if err != nil {
		return nil, fmt.Errorf("%sCERTIFICATE: %w", prefix, err)
	}
	transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	return transport, nil
}
