package s3

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"

	"berth/storage/remote"
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

func newClient(ctx context.Context, o Options) (*s3.Client, error) {
	network := remote.Network{Section: "storage.s3", SkipVerify: o.TLS.SkipVerify, CA: o.TLS.CA, Proxy: o.Proxy, Wrap: o.Transport}
	client, err := network.Client()
	if err != nil {
		return nil, err
	}
	loaded, err := config.LoadDefaultConfig(ctx, loadOptions(o)...)
	if err != nil {
		return nil, fmt.Errorf("storage.s3.credentialsconfigpath, or the AWS_* variables: %w", err)
	}
	return s3.NewFromConfig(loaded, func(c *s3.Options) {
		c.HTTPClient = client
		c.Logger = logging.Nop{}
		c.Retryer = aws.NopRetryer{} // retries are those of [remote.Service]
		c.UsePathStyle = o.PathStyle
		c.UseAccelerate = o.Accelerate
		c.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		if o.checksums() {
			c.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenSupported
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

// checksums reports whether what is sent has one beyond those that the service insists on.
func (o Options) checksums() bool { return o.Checksums != "when_required" }

// region is what requests are signed for: services other than AWS mostly take any.
func region(o Options) string {
	if o.Region == "" && o.Endpoint != "" {
		return "us-east-1"
	}
	return o.Region
}
