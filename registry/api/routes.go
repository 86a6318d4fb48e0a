package api

import (
	"net/http"
	"slices"
	"strings"

	"berth/auth"
	"berth/metrics"
)

// A route is what the API does for a method on a kind of path, and the access that it needs.
type route struct {
	method  string
	kind    kind
	access  func(*request) []auth.Access
	handle  func(*API, *call) error
	deletes bool // removes content: refused unless deleting is enabled
	creates bool // may create a repository: the name must be allowed
	logsIn  bool // finds out by itself who asks: it is where one logs in
	sends   bool // its body is of a blob
	figures metrics.Route
}

// routes is the whole API, as the table of endpoints of the OCI distribution specification has it.
var routes = [...]route{
	{method: "GET", kind: kindRoot, access: enter, handle: (*API).root, figures: metrics.Root},
	{method: "GET", kind: kindToken, access: enter, handle: (*API).getToken, logsIn: true, figures: metrics.Token},
	{method: "POST", kind: kindToken, access: enter, handle: (*API).postToken, logsIn: true, figures: metrics.Token},
	{method: "GET", kind: kindCatalog, access: list, handle: (*API).catalog, figures: metrics.Catalog},
	{method: "GET", kind: kindTags, access: pull, handle: (*API).listTags, figures: metrics.Tags},
	{method: "GET", kind: kindReferrers, access: pull, handle: (*API).listReferrers, figures: metrics.Referrers},

	{method: "DELETE", kind: kindRepository, access: remove, handle: (*API).deleteRepository, deletes: true, figures: metrics.RepositoryDelete},

	{method: "GET", kind: kindManifest, access: pull, handle: (*API).getManifest, figures: metrics.ManifestGet},
	{method: "PUT", kind: kindManifest, access: push, handle: (*API).putManifest, creates: true, figures: metrics.ManifestPut},
	{method: "DELETE", kind: kindManifest, access: remove, handle: (*API).deleteManifest, deletes: true, figures: metrics.ManifestDelete},

	{method: "GET", kind: kindBlob, access: pull, handle: (*API).getBlob, figures: metrics.BlobGet},
	{method: "HEAD", kind: kindBlob, access: pull, handle: (*API).headBlob, figures: metrics.BlobHead},
	{method: "DELETE", kind: kindBlob, access: remove, handle: (*API).deleteBlob, deletes: true, figures: metrics.BlobDelete},

	{method: "POST", kind: kindUploads, access: push, handle: (*API).startUpload, creates: true, sends: true, figures: metrics.UploadStart},
	{method: "GET", kind: kindUpload, access: push, handle: (*API).uploadStatus, figures: metrics.UploadStatus},
	{method: "PATCH", kind: kindUpload, access: push, handle: (*API).patchUpload, sends: true, figures: metrics.UploadChunk},
	{method: "PUT", kind: kindUpload, access: push, handle: (*API).closeUpload, sends: true, figures: metrics.UploadClose},
	{method: "DELETE", kind: kindUpload, access: cancel, handle: (*API).cancelUpload, figures: metrics.UploadCancel},
}

// enter is the access to the registry as such, which /v2/ asks for, so that it can tell a client to log in.
func enter(*request) []auth.Access { return []auth.Access{{Action: auth.Pull}} }

func list(*request) []auth.Access { return []auth.Access{{Action: auth.List}} }

func pull(q *request) []auth.Access {
	return []auth.Access{{Action: auth.Pull, Repository: q.name.String()}}
}

func push(q *request) []auth.Access {
	name := q.name.String()
	return []auth.Access{{Action: auth.Pull, Repository: name}, {Action: auth.Push, Repository: name}}
}

func remove(q *request) []auth.Access {
	return []auth.Access{{Action: auth.Delete, Repository: q.name.String()}}
}

func cancel(q *request) []auth.Access {
	return []auth.Access{{Action: auth.Push, Repository: q.name.String()}}
}

// find returns the route of a method on a kind of path. HEAD is answered by the route of GET where it has none of its
// own: net/http leaves out the body.
func find(method string, k kind) (*route, bool) {
	var get *route
	for i := range routes {
		r := &routes[i]
		if r.kind != k {
			continue
		}
		if r.method == method {
			return r, true
		}
		if r.method == http.MethodGet {
			get = r
		}
	}
	return get, method == http.MethodHead && get != nil
}

// counted returns what a request of r is counted as.
func (r *route) counted(c *call) metrics.Route {
	switch {
	case r.figures == metrics.ManifestGet && c.r.Method == http.MethodHead:
		return metrics.ManifestHead
	case r.figures == metrics.UploadStart && !c.digest.IsZero() && c.mount.IsZero():
		return metrics.BlobPost
	}
	return r.figures
}

// reads reports whether r is for those who may change nothing, as nobody may while the registry is read-only.
func (r *route) reads() bool {
	return !slices.ContainsFunc(r.access(&request{}), func(want auth.Access) bool {
		return want.Action == auth.Push || want.Action == auth.Delete
	})
}

// allow is the value of the Allow header for a kind of path where these routes are offered.
func allow(k kind, offered func(*route) bool) string {
	var methods []string
	for i := range routes {
		r := &routes[i]
		if r.kind != k || !offered(r) {
			continue
		}
		methods = append(methods, r.method)
		if r.method == http.MethodGet {
			methods = append(methods, http.MethodHead)
		}
	}
	slices.Sort(methods)
	return strings.Join(append(slices.Compact(methods), http.MethodOptions), ", ")
}
