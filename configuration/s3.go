package configuration

import (
	"net/url"
	"strings"
	"time"

	"berth/configuration/strict"
)

// S3 is the section storage.s3.
type S3 struct {
	// The bucket. It must be given, and be there.
	Bucket string `yaml:"bucket" example:"registry"`
	// The region of the bucket. It must be given unless there is a `regionendpoint`, where it is us-east-1 otherwise.
	Region string `yaml:"region" example:"eu-central-1"`
	// The URL of a service other than AWS that speaks S3; without a scheme `secure` says which.
	RegionEndpoint string `yaml:"regionendpoint" example:"https://s3.example.com"`
	// The URL under which clients reach the service, for redirects, where it is another one.
	RedirectEndpoint string `yaml:"redirectendpoint" example:"https://s3.example.com"`
	// Names the bucket in the path of requests. With a `regionendpoint` that is so unless `virtualhostedstyle` is true.
	ForcePathStyle bool `yaml:"forcepathstyle" default:"false"`
	// Names the bucket in the host of requests, also with a `regionendpoint`.
	VirtualHostedStyle bool `yaml:"virtualhostedstyle" default:"false"`
	// The access key. Without one, credentials are found as the tools of AWS find them: in AWS_* variables, a profile, a web
	// identity (as of a Kubernetes service account), or those of the machine.
	AccessKey Secret `yaml:"accesskey" example:"AKIAIOSFODNN7EXAMPLE"`
	// The secret key.
	SecretKey Secret `yaml:"secretkey" example:"a-secret-key"`
	// The session token, for keys that end.
	SessionToken Secret `yaml:"sessiontoken" example:"a-session-token"`
	// A file of credentials as the tools of AWS have it.
	CredentialsConfigPath string `yaml:"credentialsconfigpath" example:"/etc/berth/aws-credentials"`
	// Asks the service to encrypt objects, with `keyid` if there is one.
	Encrypt bool `yaml:"encrypt" default:"false"`
	// The key of KMS by which objects are encrypted, also without `encrypt`.
	KeyID string `yaml:"keyid" example:"arn:aws:kms:eu-central-1:111122223333:key/1234abcd"`
	// The storage class of objects. Without it, or with NONE, it is that of the service. Archives are not for a registry.
	StorageClass string `yaml:"storageclass" example:"STANDARD"`
	// A folder of the bucket, in which everything is kept.
	RootDirectory string `yaml:"rootdirectory" example:"/registry"`
	// The size of the parts in which large objects go up. An upload takes up to four of them of memory. An object has at most
	// 10,000 parts; those of one whose size is not known double after every 2,500.
	ChunkSize Size `yaml:"chunksize" default:"10MiB" min:"5MiB"`
	// How many parts are on their way at a time, of all uploads together.
	UploadConcurrency int `yaml:"uploadconcurrency" default:"8" min:"1"`
	// Uses the addresses of AWS that also speak IPv6.
	UseDualStack bool `yaml:"usedualstack" default:"false"`
	// Uses S3 Transfer Acceleration.
	Accelerate bool `yaml:"accelerate" default:"false"`
	// Uses the addresses of AWS with cryptography by FIPS 140.
	UseFIPSEndpoint bool `yaml:"usefipsendpoint" default:"false"`
	// Speaks TLS to a `regionendpoint` without a scheme.
	Secure bool `yaml:"secure" default:"true"`
	// Trusts any certificate of the service.
	SkipVerify bool `yaml:"skipverify" default:"false"`
	// A PEM file of the authorities to trust instead of those of the system.
	RootCA string `yaml:"rootca" example:"/etc/berth/s3-ca.pem"`
	// The URL of a proxy to the service. Without it the variables HTTPS_PROXY, HTTP_PROXY and NO_PROXY are followed.
	Proxy Secret `yaml:"proxy" example:"http://proxy.example.com:3128"`
	// Which checksums are sent: when_supported is more, and more than some older services understand.
	Checksums string `yaml:"checksums" default:"when_supported" enum:"when_supported|when_required"`
	// Whether the service looks at the condition of a DELETE, in one step with deleting: auto asks AWS and trusts no other
	// service. Without it, objects that are deleted under a condition stay as objects without bytes.
	ConditionalDelete string `yaml:"conditionaldelete" default:"auto" enum:"auto|true|false"`
	// Added to what Berth calls itself to the service.
	UserAgent string `yaml:"useragent" example:"team-a"`
	// Redirects clients to a CloudFront distribution in front of the bucket. `middleware.storage` may have it, too.
	CloudFront *CloudFront `yaml:"cloudfront"`
}

// CloudFront is the section storage.s3.cloudfront.
type CloudFront struct {
	// The URL of the distribution. It must be given.
	BaseURL string `yaml:"baseurl" example:"https://d111111abcdef8.cloudfront.net"`
	// The PEM file of the private key by which URLs are signed. It must be given.
	PrivateKey string `yaml:"privatekey" example:"/etc/berth/cloudfront.pem"`
	// The id of that key at CloudFront. It must be given.
	KeyPairID string `yaml:"keypairid" example:"APKAEIBAERJR2EXAMPLE"`
	// How long a URL is good.
	Duration time.Duration `yaml:"duration" default:"20m" min:"1s"`
}

// Endpoint returns the URL of the service, "" for AWS.
func (s S3) Endpoint() string { return s.withScheme(s.RegionEndpoint) }

// Redirects returns the URL of the service for clients, "" if it is that of Endpoint.
func (s S3) Redirects() string { return s.withScheme(s.RedirectEndpoint) }

func (s S3) withScheme(endpoint string) string {
	switch {
	case endpoint == "" || strings.Contains(endpoint, "://"):
		return strings.TrimSuffix(endpoint, "/")
	case s.Secure:
		return "https://" + strings.TrimSuffix(endpoint, "/")
	}
	return "http://" + strings.TrimSuffix(endpoint, "/")
}

// Folder returns what comes before the keys of objects, without slashes at its ends.
func (s S3) Folder() string { return strings.Trim(s.RootDirectory, "/") }

// maxFolder is what the longest key of an object, of 900 bytes, leaves of the 1,024 of S3 and Azure.
const maxFolder = 120

// isFolder reports whether a text can come before the keys of objects.
func isFolder(s string) bool {
	return len(s) <= maxFolder && !strings.Contains(s, "//") && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

func (s S3) check(c strict.Checking) {
	if s.Bucket == "" {
		c.Fail("bucket", "must be given")
	}
	if s.Region == "" && s.RegionEndpoint == "" {
		c.Fail("region", "must be given, such as eu-central-1; for a service other than AWS, give regionendpoint")
	}
	for key, endpoint := range map[string]string{"regionendpoint": s.Endpoint(), "redirectendpoint": s.Redirects()} {
		if endpoint != "" && !isOrigin(endpoint) {
			c.Fail(key, "must be a URL of scheme and host such as https://s3.example.com, not %s", strict.Quote(endpoint))
		}
	}
	s.checkStyle(c)
	s.checkCredentials(c)
	if folder := s.Folder(); !isFolder(folder) {
		c.Fail("rootdirectory", "must be a folder of at most %d bytes of ASCII, not %s", maxFolder, strict.Quote(s.RootDirectory))
	}
	if u, err := url.Parse(s.Proxy.Reveal()); err != nil || s.Proxy.Reveal() != "" && u.Host == "" {
		c.Fail("proxy", "must be a URL such as http://proxy.example.com:3128")
	}
}

func (s S3) checkStyle(c strict.Checking) {
	if s.ForcePathStyle && s.VirtualHostedStyle {
		c.Fail("virtualhostedstyle", "contradicts forcepathstyle; keep one")
	}
	if !s.ForcePathStyle && !s.VirtualHostedStyle && s.RegionEndpoint != "" && c.Given("forcepathstyle") {
		c.Warn("forcepathstyle", "a regionendpoint is asked with the bucket in the path anyhow; if it must not be, write virtualhostedstyle: true")
	}
}

func (s S3) checkCredentials(c strict.Checking) {
	switch {
	case s.AccessKey.Reveal() != "" && s.SecretKey.Reveal() == "":
		c.Fail("secretkey", "must be given, since there is an accesskey")
	case s.AccessKey.Reveal() == "" && s.SecretKey.Reveal() != "":
		c.Fail("accesskey", "must be given, since there is a secretkey")
	case s.AccessKey.Reveal() == "" && s.SessionToken.Reveal() != "":
		c.Fail("accesskey", "must be given, since there is a sessiontoken")
	case s.AccessKey.Reveal() != "" && s.CredentialsConfigPath != "":
		c.Warn("credentialsconfigpath", "ignored, since there is an accesskey")
	}
}

func (s CloudFront) check(c strict.Checking) {
	if !isBase(s.BaseURL) {
		c.Fail("baseurl", "must be the URL of a distribution such as https://d111111abcdef8.cloudfront.net")
	}
	if s.PrivateKey == "" {
		c.Fail("privatekey", "must be the path of a file")
	}
	if s.KeyPairID == "" {
		c.Fail("keypairid", "must be given")
	}
}

// isBase reports whether text is a URL that a path can be appended to.
func isBase(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.RawQuery == "" && u.Fragment == "" && u.User == nil
}

// cloudFront moves a CloudFront middleware of distribution to where the storage has it.
func cloudFront(doc *strict.Document) {
	section := doc.Root.Get("storage").Get("s3")
	if !section.IsSection() {
		return
	}
	doc.Root.Get("middleware").Get("storage").DeleteItems(func(item *strict.Tree) bool {
		options := item.Get("options")
		switch off := item.Get("disabled").Text() == "true"; {
		case off || !strings.EqualFold(item.Get("name").Text(), "cloudfront") || options == nil:
			return false
		case section.Get("cloudfront") != nil:
			doc.Fail(item.Source(), "middleware.storage", "is another place of storage.s3.cloudfront; keep one")
		default:
			section.Set("cloudfront", options)
		}
		return true
	})
}
