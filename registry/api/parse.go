package api

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"berth/registry"
	"berth/registry/gate"
)

// A kind is what a path names.
type kind uint8

const (
	kindRoot       kind = iota // /v2/
	kindCatalog                // /v2/_catalog
	kindTags                   // /v2/<name>/tags/list
	kindManifest               // /v2/<name>/manifests/<reference>
	kindBlob                   // /v2/<name>/blobs/<digest>
	kindUploads                // /v2/<name>/blobs/uploads/
	kindUpload                 // /v2/<name>/blobs/uploads/<id>
	kindReferrers              // /v2/<name>/referrers/<digest>
	kindToken                  // tokenPath
	kindRepository             // /v2/<name>/_berth/repository
	kinds
)

// A request is a request for the registry in typed values. Which of them are set depends on its kind and method.
type request struct {
	kind      kind
	name      registry.Name
	reference registry.Reference // of a manifest
	digest    registry.Digest    // in the path, or in ?digest=
	upload    string             // the id of an upload

	mount     registry.Digest    // ?mount=, zero when the upload mounts nothing
	from      registry.Name      // ?from=, where the mounted blob is; zero when not told
	algorithm registry.Algorithm // ?digest-algorithm=
	tags      []registry.Tag     // ?tag=

	n            int // ?n=, -1 when not given
	last         string
	artifactType string
	service      string // ?service=, for whom a token is asked for
}

// maxTagParams bounds ?tag=. The specification asks for 10 at least, and for 414 beyond the bound.
const maxTagParams = 100

// maxUploadID is the longest upload id worth looking up.
const maxUploadID = 256

// parse reads a request from its method, its path below the prefix, still percent-encoded, and its query. It rejects what
// is malformed and normalizes nothing.
func parse(method, path, rawQuery string) (*request, error) {
	path, err := plainPath(path)
	if err != nil {
		return nil, err
	}
	q := &request{n: -1, algorithm: registry.SHA256}
	if err := q.parsePath(path); err != nil {
		return nil, q.named(method, err)
	}
	if rawQuery == "" {
		return q, q.complete(method)
	}
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return nil, invalid("the query of the request is malformed")
	}
	if err := q.parseQuery(method, query); err != nil {
		return nil, err
	}
	return q, q.complete(method)
}

// named turns the refusal of what is no tag into there being no manifest of that name, for a request that asks for one: nothing
// can have been pushed by it, and the public conformance suite of the specification asks just so.
func (q *request) named(method string, err error) error {
	if q.kind == kindManifest && classOf(method) == gate.Read && registry.CodeOf(err) == registry.TagInvalid {
		return &registry.Error{Code: registry.ManifestUnknown, Message: err.Error()}
	}
	return err
}

// plainPath refuses percent-encoded paths, which proxies and servers read in different ways; nothing in a path of the
// registry needs encoding. An encoded colon is let pass: browsers' encodeURIComponent makes one of each digest.
func plainPath(path string) (string, error) {
	if !strings.Contains(path, "%") {
		return path, nil
	}
	path = strings.ReplaceAll(strings.ReplaceAll(path, "%3A", ":"), "%3a", ":")
	if strings.Contains(path, "%") {
		return "", &registry.Error{Code: registry.NameInvalid, Message: "a path of the registry has no percent-encoded characters"}
	}
	return path, nil
}

// parsePath reads the path from its end: a repository may well be named a/tags or a/blobs.
func (q *request) parsePath(path string) (err error) {
	rest, ok := strings.CutPrefix(path, "/v2")
	if !ok || rest != "" && rest[0] != '/' {
		return errNoRoute
	}
	switch rest = strings.TrimPrefix(rest, "/"); rest {
	case "":
		q.kind = kindRoot
		return nil
	case "_catalog":
		q.kind = kindCatalog
		return nil
	case strings.TrimPrefix(tokenPath, "/v2/"):
		q.kind = kindToken
		return nil
	}
	for _, s := range []struct {
		kind   kind
		suffix string
	}{{kindTags, "/tags/list"}, {kindUploads, "/blobs/uploads/"}, {kindUploads, "/blobs/uploads"}, {kindRepository, "/_berth/repository"}} {
		if name, ok := strings.CutSuffix(rest, s.suffix); ok {
			q.kind = s.kind
			q.name, err = registry.ParseName(name)
			return err
		}
	}
	head, last, ok := cutLast(rest)
	if !ok {
		return errNoRoute
	}
	return q.parseItem(head, last)
}

// parseItem reads a path that ends in the name of one thing: head is what comes before it.
func (q *request) parseItem(head, last string) (err error) {
	name, collection, ok := cutLast(head)
	if !ok || last == "" {
		return errNoRoute
	}
	switch collection {
	case "manifests":
		q.kind = kindManifest
		q.reference, err = registry.ParseReference(last)
	case "blobs":
		q.kind = kindBlob
		q.digest, err = registry.ParseDigest(last)
	case "referrers":
		q.kind = kindReferrers
		q.digest, err = registry.ParseDigest(last)
	case "uploads":
		q.kind = kindUpload
		q.upload = last
		if name, ok = strings.CutSuffix(name, "/blobs"); !ok {
			return errNoRoute
		}
		if len(last) > maxUploadID {
			err = &registry.Error{Code: registry.UploadUnknown, Message: "there is no such upload"}
		}
	default:
		return errNoRoute
	}
	if err == nil {
		q.name, err = registry.ParseName(name)
	}
	return err
}

func cutLast(path string) (before, after string, ok bool) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path, false
	}
	return path[:i], path[i+1:], true
}

// parseQuery reads the parameters that a request of this kind and method knows; others are ignored.
func (q *request) parseQuery(method string, query url.Values) (err error) {
	switch {
	case q.kind == kindCatalog || q.kind == kindTags:
		return q.parsePage(query)
	case q.kind == kindToken:
		q.service = query.Get("service")
	case q.kind == kindReferrers:
		q.artifactType = query.Get("artifactType")
		if q.last = query.Get("last"); q.last != "" {
			_, err = registry.ParseDigest(q.last)
		}
	case q.kind == kindManifest && method == http.MethodPut:
		return q.parseTags(query["tag"])
	case q.kind == kindUploads && method == http.MethodPost:
		return q.parseUploads(query)
	case q.kind == kindUpload && method == http.MethodPut && query.Has("digest"):
		q.digest, err = registry.ParseDigest(query.Get("digest"))
	}
	return err
}

func (q *request) parsePage(query url.Values) (err error) {
	if s := query.Get("n"); s != "" {
		n, err := strconv.ParseUint(s, 10, 31)
		if err != nil {
			return invalid("the parameter n must be a number from 0 on")
		}
		q.n = int(n)
	}
	if q.last = query.Get("last"); q.last == "" {
		return nil
	}
	if q.kind == kindCatalog {
		_, err = registry.ParseName(q.last)
	} else {
		_, err = registry.ParseTag(q.last)
	}
	return err
}

func (q *request) parseTags(tags []string) error {
	if len(tags) > maxTagParams {
		return &problem{status: http.StatusRequestURITooLong, code: "MANIFEST_INVALID",
			message: "a push can set at most " + strconv.Itoa(maxTagParams) + " tags"}
	}
	if len(tags) > 0 && q.reference.IsTag() {
		return invalid("the parameter tag is for a push by digest")
	}
	for _, s := range tags {
		t, err := registry.ParseTag(s)
		if err != nil {
			return err
		}
		q.tags = append(q.tags, t)
	}
	return nil
}

func (q *request) parseUploads(query url.Values) (err error) {
	if s := query.Get("digest-algorithm"); s != "" {
		if q.algorithm, err = registry.ParseAlgorithm(s); err != nil {
			return err
		}
	}
	if query.Has("digest") {
		if q.digest, err = registry.ParseDigest(query.Get("digest")); err != nil {
			return err
		}
	}
	if query.Has("mount") {
		if q.mount, err = registry.ParseDigest(query.Get("mount")); err != nil {
			return err
		}
		if from := query.Get("from"); from != "" {
			q.from, err = registry.ParseName(from)
		}
	}
	return err
}

// complete refuses a request that lacks a parameter it needs.
func (q *request) complete(method string) error {
	if q.kind == kindUpload && method == http.MethodPut && q.digest.IsZero() {
		return &registry.Error{Code: registry.DigestInvalid, Message: "closing an upload needs the parameter digest"}
	}
	return nil
}
