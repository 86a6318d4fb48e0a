package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
)

// Credentials say who asks. Without keys they are found as the tools of AWS do: in the environment, in a profile, by a web
// identity, or from the machine.
type Credentials struct {
	AccessKey    string
	SecretKey    string
	SessionToken string
	File         string // a shared credentials file
}

// TLS says whom to trust.
type TLS struct {
	SkipVerify bool
	CA         string // a PEM file of authorities, in place of those of the system
}

const (
	dialTimeout = 5 * time.Second
	idleTimeout = 60 * time.Second // less than that of the services
	idleConns   = 128
)

func newClient(ctx context.Context, o Options) (*s3.Client, error) {
	transport, err := newTransport(o)
	if err != nil {
		return nil, err
	}
	loaded, err := config.LoadDefaultConfig(ctx, loadOptions(o)...)
	if err != nil {
		return nil, fmt.Errorf("storage.s3.credentialsconfigpath, or the AWS_* variables: %w", err)
	}
	return s3.NewFromConfig(loaded, func(c *s3.Options) {
		c.HTTPClient = &http.Client{Transport: transport, CheckRedirect: noRedirect}
		c.Logger = logging.Nop{}
		c.Retryer = aws.NopRetryer{} // retries are those of [Driver.do]
		c.UsePathStyle = o.PathStyle
		c.UseAccelerate = o.Accelerate
		c.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenSupported
		if o.Checksums == "when_required" {
			c.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		}
		c.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired // digests are checked above
		c.DisableMultiRegionAccessPoints = true
		if o.Endpoint != "" {
			c.BaseEndpoint = &o.Endpoint
		}
		if o.DualStack {
			c.EndpointOptions.UseDualStackEndpoint = aws.DualStackEndpointStateEnabled
		}
		if o.FIPS {
			c.EndpointOptions.UseFIPSEndpoint = aws.FIPSEndpointStateEnabled
		}
		if o.UserAgent != "" {
			c.APIOptions = append(c.APIOptions, middleware.AddUserAgentKey(o.UserAgent))
		}
	}), nil
}

// noRedirect keeps requests, and who asks, at the host that was configured.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func loadOptions(o Options) []func(*config.LoadOptions) error {
	options := []func(*config.LoadOptions) error{config.WithRegion(region(o))}
	c := o.Credentials
	if c.AccessKey != "" {
		static := credentials.NewStaticCredentialsProvider(c.AccessKey, c.SecretKey, c.SessionToken)
		return append(options, config.WithCredentialsProvider(static))
	}
	if c.File != "" {
		options = append(options, config.WithSharedCredentialsFiles([]string{c.File}))
	}
	return options
}

// region is what requests are signed for: services other than AWS mostly take any.
func region(o Options) string {
	if o.Region == "" && o.Endpoint != "" {
		return "us-east-1"
	}
	return o.Region
}

func newTransport(o Options) (http.RoundTripper, error) {
	dialer := net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSHandshakeTimeout: dialTimeout,
		MaxIdleConns: idleConns, MaxIdleConnsPerHost: idleConns, IdleConnTimeout: idleTimeout,
		ExpectContinueTimeout: time.Second, DisableCompression: true, WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: o.TLS.SkipVerify},
	}
	if o.Proxy != "" {
		proxy, err := url.Parse(o.Proxy)
		if err != nil {
			return nil, errors.New("storage.s3.proxy: is not a URL") // which may have a password
		}
		t.Proxy = http.ProxyURL(proxy)
	}
	if o.TLS.CA != "" {
		pem, err := os.ReadFile(o.TLS.CA)
		if err != nil {
			return nil, fmt.Errorf("storage.s3.rootca: %w", err)
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("storage.s3.rootca: there is no certificate in %s", o.TLS.CA)
		}
	}
	if o.Transport != nil {
		return o.Transport(t), nil
	}
	return t, nil
}
