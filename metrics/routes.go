package metrics

// A Route is what a request asks of the registry: a method on a kind of path. Its number is an index, its name the value of
// the label route. There are no others, so that no client can make a label grow.
type Route uint8

// The routes.
const (
	Other Route = iota // whatever is not below: unknown paths, methods that a path does not have, what cannot be parsed
	Root
	Catalog
	Tags
	Referrers
	ManifestGet
	ManifestHead
	ManifestPut
	ManifestDelete
	BlobGet
	BlobHead
	BlobDelete
	UploadStart // POST without a body, also one that mounts
	BlobPost    // POST with the whole blob
	UploadStatus
	UploadChunk
	UploadClose
	UploadCancel
	Scrape // the metrics themselves
	Token  // logging in for a token
	RepositoryDelete
	routes
)

// A routeInfo says how a route is called here, and by the operations of the OpenShift registry. What concerns a tag is an
// operation more there, or another one.
type routeInfo struct {
	name     string
	byDigest string // the operation, also of what is no manifest; "": there is none
	byTag    [2]string
	uploads  bool // receives bytes of a blob
}

// operations returns those of the OpenShift registry.
func (i routeInfo) operations(byTag bool) []string {
	switch {
	case byTag && i.byTag[1] != "":
		return i.byTag[:]
	case byTag && i.byTag[0] != "":
		return i.byTag[:1]
	case i.byDigest != "":
		return []string{i.byDigest}
	}
	return nil
}

func infoOf(r Route) routeInfo {
	return [routes]routeInfo{
		Other:            {name: "other"},
		Root:             {name: "root"},
		Catalog:          {name: "catalog"},
		Tags:             {name: "tags", byDigest: "TagService.All"},
		Referrers:        {name: "referrers"},
		ManifestGet:      {name: "manifest_get", byDigest: "ManifestService.Get", byTag: [2]string{"ManifestService.Get", "TagService.Get"}},
		ManifestHead:     {name: "manifest_head", byDigest: "ManifestService.Exists", byTag: [2]string{"ManifestService.Exists", "TagService.Get"}},
		ManifestPut:      {name: "manifest_put", byDigest: "ManifestService.Put", byTag: [2]string{"ManifestService.Put", "TagService.Tag"}},
		ManifestDelete:   {name: "manifest_delete", byDigest: "ManifestService.Delete", byTag: [2]string{"TagService.Untag"}},
		BlobGet:          {name: "blob_get", byDigest: "BlobStore.ServeBlob"},
		BlobHead:         {name: "blob_head", byDigest: "BlobStore.Stat"},
		BlobDelete:       {name: "blob_delete", byDigest: "BlobStore.Delete"},
		UploadStart:      {name: "upload_start", byDigest: "BlobStore.Create"},
		BlobPost:         {name: "blob_post", byDigest: "BlobStore.Put", uploads: true},
		UploadStatus:     {name: "upload_status", byDigest: "BlobStore.Resume"},
		UploadChunk:      {name: "upload_chunk", byDigest: "BlobStore.Resume", uploads: true},
		UploadClose:      {name: "upload_close", byDigest: "BlobWriter.Commit", uploads: true},
		UploadCancel:     {name: "upload_cancel", byDigest: "BlobWriter.Cancel"},
		Scrape:           {name: "metrics"},
		Token:            {name: "token"},
		RepositoryDelete: {name: "repository_delete"},
	}[r]
}

// String returns the value of the label route.
func (r Route) String() string { return infoOf(r).name }

// methods are the values of the label method. All others are the last one.
var methods = [...]string{"get", "head", "post", "put", "patch", "delete", "options", "connect", "trace", "unknown"}

// methodIndex finds a method of HTTP, which is case-sensitive (RFC 9110, section 9.1).
func methodIndex(method string) int {
	switch method {
	case "GET":
		return 0
	case "HEAD":
		return 1
	case "POST":
		return 2
	case "PUT":
		return 3
	case "PATCH":
		return 4
	case "DELETE":
		return 5
	case "OPTIONS":
		return 6
	case "CONNECT":
		return 7
	case "TRACE":
		return 8
	}
	return len(methods) - 1
}

// classes are the values of the label status.
var classes = [...]string{"1xx", "2xx", "3xx", "4xx", "5xx"}

// classIndex is for a status from 100 to 599.
func classIndex(status int) int { return status/100 - 1 }

// An Outcome is how it went when a request said who sent it and what it wants.
type Outcome uint8

// The outcomes.
const (
	Unasked       Outcome = iota // it failed before anybody asked
	Anonymous                    // allowed without credentials
	Authenticated                // allowed with credentials
	BadCredentials
	Throttled   // too many failed before
	Unavailable // what credentials are checked with does not answer
	Denied      // known or anonymous, and not allowed
	ReadOnly    // allowed, but for the registry being read-only
	outcomes
)

var outcomeNames = [outcomes]string{"unasked", "anonymous", "authenticated", "bad_credentials", "throttled", "unavailable", "denied", "read_only"}
