// Package buckets holds the drivers of stores in the network against the specification of drivers, over servers of their
// protocols; with -store, over a service that is not ours.
package buckets

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"berth/storage"
	"berth/storage/azure"
	"berth/storage/gcs"
	"berth/storage/s3"
	"berth/tests/harness"
)

// A service is a store in the network that drivers are tried over.
type service struct {
	name string
	// verifies says that it looks at the signatures of URLs.
	verifies bool
	// unsettled says that the outcome of a call may stay open where many change one object.
	unsettled bool
	// start runs it until a test ends, and returns what opens drivers in it.
	start func(t *testing.T) opener
}

// An opener opens a driver in a folder that nobody has used, whose requests pass a network; nil: the usual one.
type opener func(t *testing.T, n network) storage.Driver

// A network is what the requests of a driver pass.
type network func(http.RoundTripper) http.RoundTripper

// second asks other servers of S3 than the usual one, which take minutes to build, or a cluster to install.
var second = flag.Bool("second", false, "a second opinion on S3: MinIO, and the gateway of Ceph")

// services are those that there are.
func services() []service {
	if *store != "" {
		return []service{{name: *store, verifies: true, start: configured}}
	}
	if *second {
		return []service{
			{name: "minio", verifies: true, unsettled: true, start: func(t *testing.T) opener { return inS3(harness.StartMinIO(t)) }},
			{name: "ceph", verifies: true, unsettled: true, start: func(t *testing.T) opener { return inS3(harness.StartRGW(t)) }},
		}
	}
	return []service{
		{name: "s3 http", verifies: true, start: func(t *testing.T) opener { return inS3(harness.StartS3(t, false)) }},
		{name: "s3 https", verifies: true, start: func(t *testing.T) opener { return inS3(harness.StartS3(t, true)) }},
		{name: "azure http", verifies: true, start: func(t *testing.T) opener { return inAzure(harness.StartAzure(t, false), nil) }},
		{name: "azure https", verifies: true, start: func(t *testing.T) opener { return inAzure(harness.StartAzure(t, true), nil) }},
		{name: "gcs", start: func(t *testing.T) opener { return inGCS(harness.StartGCS(t)) }},
		{name: "gcs strict", verifies: true, start: func(t *testing.T) opener {
			server, _ := harness.StartStrictGCS(t, nil)
			return inGCS(server)
		}},
	}
}

// byToken is Azure for somebody who has no key of the account.
func byToken() service {
	return service{name: "azure by token", verifies: true, start: func(t *testing.T) opener { return inAzure(harness.StartAzure(t, true), token{}) }}
}

// each runs a test over services.
func each(t *testing.T, services []service, test func(t *testing.T, s service, open opener)) {
	for _, s := range services {
		t.Run(s.name, func(t *testing.T) { test(t, s, s.start(t)) })
	}
}

var roots atomic.Int64

// root is a folder that nobody has used.
func root() string { return fmt.Sprintf("root%d", roots.Add(1)) }

const pieceSize = 5 << 20

func inS3(server *harness.S3) opener {
	return func(t *testing.T, n network) storage.Driver {
		d, err := s3.Open(t.Context(), s3.Options{
			Bucket: server.Bucket, Region: server.Region, Endpoint: server.Endpoint, Root: root(), PathStyle: true, PartSize: pieceSize,
			Credentials: s3.Credentials{AccessKey: server.AccessKey, SecretKey: server.SecretKey}, TLS: s3.TLS{CA: server.CA}, Transport: n,
		})
		return kept(t, d, err)
	}
}

func inAzure(server *harness.Azure, who azcore.TokenCredential) opener {
	return func(t *testing.T, n network) storage.Driver {
		o := azure.Options{
			Account: server.Account, Container: server.Container, Endpoint: server.Endpoint, Root: root(), PartSize: pieceSize,
			Credentials: azure.Credentials{Key: server.Key}, TLS: azure.TLS{CA: server.CA}, Transport: n,
		}
		if who != nil {
			o.Credentials = azure.Credentials{Token: who}
		}
		d, err := azure.Open(t.Context(), o)
		return kept(t, d, err)
	}
}

func inGCS(server *harness.GCS) opener {
	return func(t *testing.T, n network) storage.Driver {
		d, err := gcs.Open(t.Context(), gcs.Options{
			Bucket: server.Bucket, Endpoint: server.Endpoint, Root: root(), ChunkSize: 1 << 20,
			Credentials: gcs.Credentials{JSON: server.Account.JSON}, Transport: n,
		})
		return kept(t, d, err)
	}
}

// kept is a driver that lives as long as a test.
func kept(t *testing.T, d interface {
	storage.Driver
	io.Closer
}, err error) storage.Driver {
	t.Helper()
	must(t, err)
	t.Cleanup(func() { must(t, d.Close()) })
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
