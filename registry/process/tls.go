package process

import (
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/sirupsen/logrus"

	"berth/auth/certificate"
	"berth/auth/guard"
	"berth/configuration"
	"berth/metrics"
	"berth/registry/server"
)

// openTLS reads the certificates that a configuration names, with the authorities of clients. told hears of each attempt to take
// others later. Nil: plain HTTP is configured.
func openTLS(c *configuration.Config, authorities *certificate.Authorities, told guard.Told, log *logrus.Logger) (*server.TLS, error) {
	section := c.HTTP.TLS
	if !section.Configured() {
		return nil, nil
	}
	o := server.TLSOptions{
		MinVersion: tls.VersionTLS12, CipherSuites: section.CipherSuites,
		ClientCAs: authorities, ClientAuth: section.ClientAuth, Log: log,
		OnReload: func(setting string, err error) { told(metrics.Certificates, setting, err) },
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
	t, err := server.OpenTLS(o)
	var wrong *server.SettingError
	if errors.As(err, &wrong) {
		err = c.At(wrong.Setting, wrong.Err)
	}
	return t, err
}
