package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
)

// selfSignedAge is short enough for every client: some take no certificate of a server for more than 825 days.
const selfSignedAge = 365 * 24 * time.Hour

func newTLS(env environment) *cobra.Command {
	parent := &cobra.Command{
		Use: "tls", Short: "Make certificates for trying out TLS (http.tls)", Example: "  berth tls self-signed --out tls", Args: usage(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var dir string
	selfSigned := &cobra.Command{
		Use: "self-signed [HOST...]", Short: "Make an authority and a certificate of it",
		Long: "self-signed writes ca.crt, tls.crt and tls.key for some names and addresses (localhost, 127.0.0.1 and ::1 without\n" +
			"any), good for a year. The key of the authority is thrown away. No file is overwritten. Clients trust the\n" +
			"certificate once they have ca.crt: docker and podman as /etc/docker/certs.d/HOST:PORT/ca.crt or\n" +
			"/etc/containers/certs.d/HOST:PORT/ca.crt.",
		Example: "  berth tls self-signed --out /etc/berth registry.example.com",
		RunE: func(_ *cobra.Command, hosts []string) error {
			if len(hosts) == 0 {
				hosts = []string{"localhost", "127.0.0.1", "::1"}
			}
			if err := writeSelfSigned(dir, hosts); err != nil {
				return fmt.Errorf("tls self-signed: %w", err)
			}
			_, err := fmt.Fprintf(env.stdout, "wrote ca.crt, tls.crt and tls.key in %s, for %q\n", dir, hosts)
			return err
		},
	}
	selfSigned.Flags().StringVar(&dir, "out", ".", "the folder `DIR` to write to")
	parent.AddCommand(selfSigned)
	return parent
}

func writeSelfSigned(dir string, hosts []string) error {
	now := time.Now()
	ca := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Berth, for trying out"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(selfSignedAge),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		Subject: pkix.Name{CommonName: hosts[0]}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, host)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return err
	}
	if ca, err = x509.ParseCertificate(caDER); err != nil {
		return err
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return err
	}
	return writePEMs(dir, caDER, leafDER, key)
}

// writePEMs writes three files, or none when one of them is there.
func writePEMs(dir string, ca, leaf []byte, key crypto.PrivateKey) error {
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	files := []struct {
		name, kind string
		content    []byte
		mode       fs.FileMode
	}{
		{"ca.crt", "CERTIFICATE", ca, 0o644}, {"tls.crt", "CERTIFICATE", leaf, 0o644}, {"tls.key", "PRIVATE KEY", private, 0o600},
	}
	for _, f := range files {
		if _, err := os.Lstat(filepath.Join(dir, f.name)); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is there already; nothing was written", filepath.Join(dir, f.name))
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, f := range files {
		out, err := os.OpenFile(filepath.Join(dir, f.name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, f.mode)
		if err != nil {
			return err
		}
		if err := errors.Join(pem.Encode(out, &pem.Block{Type: f.kind, Bytes: f.content}), out.Close()); err != nil {
			return err
		}
	}
	return nil
}
