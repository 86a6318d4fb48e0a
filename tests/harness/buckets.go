package harness

import (
	"strings"
	"testing"
)

// A Bucket is a kind of store in the network.
type Bucket struct {
	Name string
	// Start runs one until the test ends. Clients reach it at what through makes of its scheme and host. It returns the options
	// of the registries in it.
	Start func(t testing.TB, through func(origin string) string) Options
}

// Buckets are the stores in the network that registries are tried over.
func Buckets() []Bucket {
	return []Bucket{{"s3", InS3}, {"azure", InAzure}, {"gcs", InGCS}}
}

// Direct is for stores that are reached as they are.
func Direct(origin string) string { return origin }

const bucketRoot = "/registry"

// InS3 is [Bucket.Start] of a bucket of S3.
func InS3(t testing.TB, through func(string) string) Options {
	server := *StartS3(t, false)
	server.Endpoint = through(server.Endpoint)
	return Options{Storage: "s3", Env: server.Env(bucketRoot)}
}

// InAzure is [Bucket.Start] of a container of Azure.
func InAzure(t testing.TB, through func(string) string) Options {
	server := *StartAzure(t, false)
	origin, _ := strings.CutSuffix(server.Endpoint, "/"+server.Account)
	server.Endpoint = through(origin) + "/" + server.Account
	return Options{Storage: "azure", Env: server.Env(bucketRoot)}
}

// InGCS is [Bucket.Start] of a bucket of Google Cloud Storage.
func InGCS(t testing.TB, through func(string) string) Options {
	server := *StartGCS(t)
	server.Endpoint = through(server.Endpoint)
	return Options{Storage: "gcs", Env: server.Env(bucketRoot)}
}
