package configuration

import (
	"fmt"
	"strings"
	"testing"
)

func TestMetricsSection(t *testing.T) {
	const mine = "metrics: {enabled: true, secret: a-long-random-text}"
	for name, one := range map[string]struct {
		yaml    string
		environ []string
	}{
		"by its own name":         {yaml: mine},
		"as in OpenShift":         {yaml: "openshift:\n  version: 1.0\n  " + mine},
		"by variables":            {environ: []string{"REGISTRY_METRICS_ENABLED=true", "REGISTRY_METRICS_SECRET=a-long-random-text"}},
		"by OpenShift's":          {environ: []string{"REGISTRY_OPENSHIFT_METRICS_ENABLED=true", "REGISTRY_OPENSHIFT_METRICS_SECRET=a-long-random-text"}},
		"by one for the section":  {environ: []string{"REGISTRY_OPENSHIFT_METRICS={enabled: true, secret: a-long-random-text}"}},
		"by one for all sections": {environ: []string{"REGISTRY_OPENSHIFT={version: 1.0, " + mine + "}"}},
		"a variable over OpenShift's key": {yaml: "openshift: {metrics: {enabled: false, secret: another-long-text}}",
			environ: []string{"REGISTRY_OPENSHIFT_METRICS_ENABLED=true", "REGISTRY_METRICS_SECRET=a-long-random-text"}},
	} {
		t.Run(name, func(t *testing.T) {
			c, warnings, err := Parse("c.yml", []byte("version: 0.1\nstorage: inmemory\n"+one.yaml), one.environ)
			if err != nil || len(warnings) > 0 {
				t.Fatal(warnings, err)
			}
			if !c.Metrics.Enabled || c.Metrics.Secret.Reveal() != "a-long-random-text" || !c.Measured() {
				t.Errorf("read as %+v", c.Metrics)
			}
			if strings.Contains(fmt.Sprintf("%+v", c), "a-long") {
				t.Error("the secret is printed")
			}
		})
	}
}

func TestMetricsRefused(t *testing.T) {
	for yaml, want := range map[string]string{
		"metrics:\n  secret: 'two words, long'":                          "c.yml:4: metrics.secret: must have only letters, digits and signs of ASCII, without blanks: it is sent as a password or a token",
		"metrics:\n  enabled: perhaps":                                   "c.yml:4: metrics.enabled: must be true or false, not \"perhaps\"",
		"metrics:\n  secret: [a]":                                        "c.yml:4: metrics.secret: must be a text, not a list",
		"metrics:\n  sekret: x":                                          "c.yml:4: metrics.sekret: unknown key; the nearest is metrics.secret",
		"openshift:\n  metrics:\n    secret: \"tab\\tin it, long\"":      "c.yml:5: metrics.secret: must have only",
		"metrics: {enabled: true}\nopenshift: {metrics: {secret: x}}":    "c.yml:4: openshift.metrics: is another name of metrics (c.yml:3); keep one",
		"openshift:\n  metrics: {enabled: true}\n  metrics: {secret: x}": "c.yml:5: openshift.metrics: is another name of metrics (c.yml:4); keep one",
		"openshift:\n  metrics: true":                                    "c.yml:4: metrics: must be a section such as {key: value}, not \"true\"",
		"http:\n  debug:\n    addr: here":                                "c.yml:5: http.debug.addr: must be host:port such as 127.0.0.1:5001 or :5001, not \"here\"",
		"http:\n  addr: :5000\n  debug: {addr: ':5000'}":                 "c.yml:5: http.debug.addr: must be another address than that of the registry, http.addr",
		"http:\n  debug:\n    prometheus: {enabled: true}":               "c.yml:5: http.debug.prometheus.enabled: needs an address",
		"http:\n  debug:\n    prometheus:\n      path: metrics":          "c.yml:6: http.debug.prometheus.path: must be a path such as /metrics",
		"http:\n  debug:\n    prometheus:\n      path: /debug/pprof/":    "c.yml:6: http.debug.prometheus.path: must be a path such as /metrics",
	} {
		_, _, err := Parse("c.yml", []byte(minimal+yaml), nil)
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "two words") {
			t.Errorf("%s\ngave %v\nwant %s", yaml, err, want)
		}
	}
}

func TestDebugSection(t *testing.T) {
	c := mustParse(t, minimal+"http: {debug: {addr: ':5001', prometheus: {enabled: true, path: /figures}}}")
	if d := c.HTTP.Debug; d.Addr != ":5001" || !d.Prometheus.Enabled || d.Prometheus.Path != "/figures" || !c.Measured() {
		t.Errorf("read as %+v", d)
	}
	if mustParse(t, minimal).Measured() {
		t.Error("without being configured, metrics are kept")
	}
}
