package harness

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// An S3 is a server of S3 with one bucket: versitygw over a folder.
type S3 struct {
	Endpoint, Bucket, Region, AccessKey, SecretKey string
	CA                                             string // the file of the authority of an https endpoint
	Folder                                         string // of the bucket
}

// VersityGW is the server of S3 that tests are made with.
var VersityGW = Tool{"versitygw", "github.com/versity/versitygw", "v1.8.0", "cmd/versitygw"}

// StartS3 runs a server of S3 until the test ends.
func StartS3(t testing.TB, secure bool) *S3 {
	t.Helper()
	dir, addr := t.TempDir(), FreeAddr(t)
	s := &S3{Endpoint: "http://" + addr, Bucket: "registry", Region: "us-east-1", AccessKey: "tester", SecretKey: "secret-of-the-tester",
		Folder: filepath.Join(dir, "buckets", "registry")}
	for _, folder := range []string{s.Folder, filepath.Join(dir, "iam")} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"--keep-alive", "--port", addr, "--iam-dir", filepath.Join(dir, "iam")}
	if secure {
		s.Endpoint, s.CA = "https://"+addr, filepath.Join(dir, "tls.crt")
		args = append(args, "--cert", s.CA, "--key", filepath.Join(dir, "tls.key"))
		if err := SelfSigned(s.CA, filepath.Join(dir, "tls.key")); err != nil {
			t.Fatal(err)
		}
	}
	Run(t, []string{"ROOT_ACCESS_KEY=" + s.AccessKey, "ROOT_SECRET_KEY=" + s.SecretKey},
		VersityGW.Path(t), append(args, "posix", filepath.Join(dir, "buckets"))...)
	WaitForListener(t, addr)
	return s
}

// Env is the configuration of a registry in the bucket, below a folder of it.
func (s *S3) Env(root string) []string {
	return []string{
		"REGISTRY_STORAGE_S3_REGIONENDPOINT=" + s.Endpoint, "REGISTRY_STORAGE_S3_BUCKET=" + s.Bucket, "REGISTRY_STORAGE_S3_REGION=" + s.Region,
		"REGISTRY_STORAGE_S3_ACCESSKEY=" + s.AccessKey, "REGISTRY_STORAGE_S3_SECRETKEY=" + s.SecretKey,
		"REGISTRY_STORAGE_S3_ROOTCA=" + s.CA, "REGISTRY_STORAGE_S3_ROOTDIRECTORY=" + root,
	}
}

// SelfSigned writes a certificate for 127.0.0.1 that is its own authority.
func SelfSigned(certificate, key string) error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return err
	}
	if err := os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return err
	}
	if der, err = x509.MarshalPKCS8PrivateKey(private); err != nil {
		return err
	}
	return os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}
