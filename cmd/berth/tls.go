package main

import (
	"crypto/tls"
	"fmt"

	"berth/auth/certificate"
	"berth/auth/reload"
	"berth/configuration"
	"berth/metrics"
	"berth/registry/server"
)

// openTLS reads the certificates that a configuration names. Nil: plain HTTP is configured.
func openTLS(c *configuration.Config, a *access) (*server.TLS, error) {
	section := c.HTTP.TLS
	if !section.Configured() {
		return nil, nil
	}
	o := server.TLSOptions{
		MinVersion: tls.VersionTLS12, CipherSuites: section.CipherSuites,
		ClientCAs: a.authorities, ClientAuth: section.ClientAuth, Log: a.log,
		OnReload: func(err error) { a.count(metrics.Certificates, err) },
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

// openCertificates reads the authorities of clients.
func (a *access) openCertificates(c *configuration.Config) (err error) {
	if len(c.HTTP.TLS.ClientCAs) == 0 {
		return nil
	}
	a.authorities, err = certificate.OpenAuthorities(c.HTTP.TLS.ClientCAs, &reload.Options{
		OnError: a.failed(metrics.Certificates), OnReload: a.reloaded(metrics.Certificates),
	})
	if err != nil {
		return at(c, "http.tls.clientcas", err)
	}
	if identity := c.Auth.ClientCertificate; identity != nil {
		a.certificates, err = certificate.New(certificate.Options{
			User: identity.User, UserPrefix: identity.UserPrefix, Groups: identity.Groups, GroupPrefix: identity.GroupPrefix,
			Authorities: a.authorities,
		})
	}
	return err
}
