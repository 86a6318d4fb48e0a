package s3

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"berth/storage/remote"
)

// Codes by which services say what is wrong with a request as such.
var (
	credentialCodes = []string{"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired",
		"RequestTimeTooSkewed", "InvalidClientTokenId"}
	regionCodes = []string{"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "TemporaryRedirect",
		"InvalidRegion", "IncorrectEndpoint", "MovedPermanently"}
)

// explain names the key of the configuration that an error of the probe is about. The permission is what the request needs.
func (p *probe) explain(permission string, err error) error {
	if err == nil {
		return nil
	}
	name, status := code(err)
	switch {
	case name == "NoSuchBucket", status == http.StatusNotFound && name == "NotFound":
		return fmt.Errorf("storage.s3.bucket: there is no bucket of this name%s", p.place())
	case name == "InvalidBucketName":
		return errors.New("storage.s3.bucket: the service says that no bucket can have this name")
	case slices.Contains(regionCodes, name), name == "" && 300 <= status && status < 400:
		return fmt.Errorf("storage.s3.region: the bucket is not in %q: %w", region(p.o), err)
	case name == "SignatureDoesNotMatch":
		return errors.New("storage.s3.secretkey: it does not belong to storage.s3.accesskey, or storage.s3.region is not that of the bucket")
	case name == "InvalidAccessKeyId", name == "InvalidClientTokenId":
		return errors.New("storage.s3.accesskey: the service does not know it")
	case name == "ExpiredToken", name == "InvalidToken", name == "TokenRefreshRequired":
		return fmt.Errorf("storage.s3.sessiontoken: the service does not take it (any more): %s", name)
	case name == "RequestTimeTooSkewed":
		return errors.New("the clock of this machine differs too much from that of the service of storage.s3.regionendpoint")
	case status == http.StatusForbidden && name != "", status == http.StatusUnauthorized && name != "":
		return fmt.Errorf("storage.s3.accesskey: the permission %s on storage.s3.bucket is missing: %w", permission, err)
	case name == "" || status/100 == 2 || name == "UnknownError":
		return p.unreachable(err)
	}
	return fmt.Errorf("storage.s3: the service refuses a request that needs %s: %w", permission, err)
}

// place says where the bucket was looked for.
func (p *probe) place() string {
	if p.o.Endpoint != "" {
		return " at " + p.o.Endpoint
	}
	return " in " + p.o.Region
}

// unreachable explains an error that does not come from a service of S3.
func (p *probe) unreachable(err error) error {
	if _, status := code(err); status != 0 {
		return p.notS3(err)
	}
	where := remote.Address{Key: "storage.s3." + p.whereKey(), Scheme: "storage.s3.secure", CA: "storage.s3.rootca", Place: p.place()}
	if p.o.Proxy != "" {
		where.Proxy = "storage.s3.proxy"
	}
	return where.Unreachable(err)
}

func (p *probe) whereKey() string {
	if p.o.Endpoint != "" {
		return "regionendpoint"
	}
	return "region"
}

func (p *probe) notS3(cause error) error {
	return fmt.Errorf("storage.s3.%s: what answers%s does not speak S3: %w", p.whereKey(), p.place(), cause)
}
