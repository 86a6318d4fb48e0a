package s3

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/storage"
)

func TestSignedURL(t *testing.T) {
	o := over(newFake())
	o.RedirectEndpoint = "https://public.test"
	for endpoint, d := range map[string]*Driver{"http://s3.test": openOver(t, over(newFake())), "https://public.test": openOver(t, o)} {
		text, err := storage.SignedURL(t.Context(), d, "data/x", 5*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(text)
		if err != nil || !strings.HasPrefix(text, endpoint+"/bucket/root/data/x?") || u.Query().Get("X-Amz-Expires") != "300" || u.Query().Get("X-Amz-Signature") == "" {
			t.Errorf("SignedURL = %s, %v", text, err)
		}
		if strings.Contains(text, "secret") {
			t.Errorf("the URL %s has the secret key", text)
		}
	}
	if _, err := openOver(t, over(newFake())).SignedURL(t.Context(), "../x", time.Minute); !errors.Is(err, storage.ErrInvalidKey) {
		t.Errorf("SignedURL of an invalid key = %v", err)
	}
}

// TestRedirectEndpoint signs for an endpoint of one's own, however AWS itself is reached.
func TestRedirectEndpoint(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"dual stack": func(o *Options) { o.DualStack = true },
		"FIPS":       func(o *Options) { o.FIPS = true },
		"accelerate": func(o *Options) { o.Accelerate = true },
	} {
		o := over(newFake())
		o.Endpoint, o.Region, o.PathStyle, o.RedirectEndpoint = "", "us-east-1", false, "https://public.test"
		change(&o)
		d, err := prepare(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := d.SignedURL(t.Context(), "data/x", time.Minute); err != nil || !strings.HasPrefix(text, "https://bucket.public.test/root/data/x?") {
			t.Errorf("%s: SignedURL = %s, %v", name, text, err)
		}
	}
}

func TestCloudFront(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for kind, der := range map[string][]byte{"RSA PRIVATE KEY": x509.MarshalPKCS1PrivateKey(private), "PRIVATE KEY": pkcs8} {
		file := filepath.Join(t.TempDir(), "key.pem")
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		o := over(newFake())
		o.CloudFront = &CloudFront{BaseURL: "https://d1.cloudfront.test/", PrivateKey: file, KeyPairID: "KPID"}
		text, err := openOver(t, o).SignedURL(t.Context(), "data/x", time.Minute)
		u, _ := url.Parse(text)
		if err != nil || !strings.HasPrefix(text, "https://d1.cloudfront.test/root/data/x?") || u.Query().Get("Key-Pair-Id") != "KPID" || u.Query().Get("Signature") == "" {
			t.Errorf("%s: SignedURL = %s, %v", kind, text, err)
		}
	}
	o := over(newFake())
	o.CloudFront = &CloudFront{BaseURL: "https://d1.cloudfront.test/", PrivateKey: "/dev/null", KeyPairID: "KPID"}
	if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "storage.s3.cloudfront.privatekey") {
		t.Errorf("Open without a key = %v", err)
	}
}
