package configuration

import (
	"strings"
	"testing"
)

func TestTLS(t *testing.T) {
	c := mustParse(t, minimal+"http:\n  http2: {disabled: true}\n  tls:\n    minimumtls: TLS1.3\n    clientcas: [c.pem]\n    certificates:\n"+
		"      - {hostnames: [a.example, '*.b.example'], certificate: a.crt, key: a.key}\n")
	got := c.HTTP.TLS
	if !got.Configured() || got.MinimumTLS != "tls1.3" || got.Certificates[0].Hostnames[1] != "*.b.example" || !c.HTTP.HTTP2.Disabled {
		t.Errorf("read %+v", got)
	}
	if mustParse(t, minimal).HTTP.TLS.Configured() {
		t.Error("TLS is configured by nothing")
	}
	c, warnings, err := Parse("c.yml", []byte(minimal+"http: {tls: {minimumtls: tls1.3, ciphersuites: [TLS_RSA_X, TLS_AES_128_GCM_SHA256]}}"), nil)
	if err == nil || c != nil || len(warnings) != 1 || !strings.Contains(warnings[0].String(), "http.tls.ciphersuites: ignored") {
		t.Errorf("of cipher suites for TLS 1.3 it says %v, %v", warnings, err)
	}
}

func TestTLSRefused(t *testing.T) {
	const pair = "certificate: a, key: b"
	for tls, want := range map[string]string{
		"key: x":                      "http.tls.certificate: must be the path of a file, since there is a key",
		"certificate: x":              "http.tls.key: must be the path of a file, since there is a certificate",
		"clientcas: [x]":              "http.tls: asks for certificates of clients, which needs",
		"minimumtls: tls1.1":          "http.tls.minimumtls: must be one of tls1.2, tls1.3",
		pair + ", clientauth: always": "http.tls.clientauth: must be one of request-client-cert, ",
		pair + ", clientauth: require-and-verify-client-cert":                            "http.tls.clientauth: needs http.tls.clientcas",
		pair + ", letsencrypt: {email: a@b}":                                             "http.tls.letsencrypt: not implemented",
		pair + ", ciphersuites: [TLS_RSA_WITH_RC4_128_SHA]":                              "http.tls.ciphersuites[0]: TLS_RSA_WITH_RC4_128_SHA is insecure",
		pair + ", ciphersuites: [TLS_AES_128_GCM_SHA257]":                                "the nearest is TLS_AES_128_GCM_SHA256",
		pair + ", ciphersuites: [TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256]":           "http.tls.ciphersuites: must have TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 or",
		"certificates: [{" + pair + "}]":                                                 "http.tls.certificates[0].hostnames: must name a host",
		"certificates: [{hostnames: [a]}]":                                               "http.tls.certificates[0].certificate: must be the path of a file",
		"certificates: [{hostnames: ['a.*'], " + pair + "}]":                             `http.tls.certificates[0].hostnames[0]: must be a name`,
		"certificates: [{hostnames: [A], " + pair + "}, {hostnames: [a], " + pair + "}]": `http.tls.certificates[1].hostnames: "a" has a certificate already`,
	} {
		_, _, err := Parse("c.yml", []byte(minimal+"http: {tls: {"+tls+"}}"), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("{%s}: %v, want %q", tls, err, want)
		}
	}
}
