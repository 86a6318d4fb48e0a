package process

import (
	"crypto/tls"
	"fmt"

	"berth/metrics"
	"berth/registry/server"
)

// openTLS reads the certificates that the configuration names. Nil: plain HTTP is configured.
func (p process) openTLS() (*server.TLS, error) {
	section := p.config.HTTP.TLS
	if !section.Configured() {
		return nil, nil
	}
	o := server.TLSOptions{
		MinVersion: tls.VersionTLS12, CipherSuites: section.CipherSuites,
		ClientCAs: p.guard.Authorities(), ClientAuth: section.ClientAuth, Log: p.log,
		OnReload: func(err error) { p.count(metrics.Certificates, err) },
	}
	if section.MinimumTLS == "tls1.3" {
		o.MinVersion = tls.VersionTLS13
	}
	if section.Certificate != "" {
		o.Certificates = append(o.Certificates, server.CertificateFile{
			Setting: "http.tls.certificate", Certificate: section.Certificate, Key: section.Key,
		})
	}
	for i, one := range section.Certificates {
		o.Certificates = append(o.Certificates, server.CertificateFile{
			Setting: fmt.Sprintf("http.tls.certificates[%d]", i), Hostnames: one.Hostnames, Certificate: one.Certificate, Key: one.Key,
		})
	}
	return server.OpenTLS(o)
}
