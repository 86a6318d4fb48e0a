package conformance

import (
	"strings"
	"time"

	"berth/tests/content"
)

const (
	postPut    = "Pushing a blob monolithically: POST then PUT"
	singlePost = "Pushing a blob monolithically: single POST"
	mounting   = "Mounting a blob from another repository"
)

// novel is a blob that no run pushed before, so that nothing is there to be found.
func (x trial) novel(a content.Algorithm, size int) content.Blob {
	return a.Of(content.Random(x.repo+x.Name()+time.Now().String(), size).Bytes)
}

var monolithicRows = []row{
	{postPut, "MUST", "POST answers 202 with the Location of a session", func(x trial) {
		a := x.do("POST", "blobs/uploads/").is(202)
		if b := x.do("POST", "blobs/uploads/").is(202); a.located() == b.located() {
			x.Errorf("two sessions have one Location, %s", a.located())
		}
	}},
	{postPut, "MUST", "PUT to the Location answers 201 with the Location of the blob", each(func(x trial, a content.Algorithm) {
		b := x.novel(a, 512)
		x.stored(x.closes(x.begin(), b.Digest, octets(b.Bytes)), b)
	})},
	{postPut, "MUST", "pushing a blob that is there already answers as the first time", each(func(x trial, a content.Algorithm) {
		b := x.blob(a, 700)
		x.stored(x.closes(x.begin(), b.Digest, octets(b.Bytes)), b)
	})},
	{postPut, "SHOULD", "a digest that the content does not have is 400, and nothing is stored", each(func(x trial, a content.Algorithm) {
		b := x.novel(a, 3067)
		x.closes(x.begin(), b.Digest, octets(append(b.Bytes[:3067:3067], "junk!"...))).is(400).code("DIGEST_INVALID")
		x.do("HEAD", "blobs/"+b.Digest).is(404)
	})},
	{postPut, "SHOULD", "a digest that is malformed, or of an unknown algorithm, is 400", func(x trial) {
		for _, digest := range []string{"sha256:abc", "sha256:" + strings.Repeat("G", 64), "md5:d41d8cd98f00b204e9800998ecf8427e", "x", "sha256:" + strings.Repeat("a", 65)} {
			x.closes(x.begin(), digest, octets([]byte("content"))).is(400).code("DIGEST_INVALID")
		}
	}},
	{postPut, "MUST", "the closing PUT has a digest: without one it is 400", func(x trial) {
		x.do("PUT", x.begin(), octets([]byte("content"))).is(400).code("DIGEST_INVALID")
	}},
	{postPut, "suite", "a body without a Content-Length is accepted", each(func(x trial, a content.Algorithm) {
		b := x.novel(a, 512)
		x.stored(x.closes(x.begin(), b.Digest, stream(b.Bytes)), b)
	})},
	{postPut, "suite", "an empty blob, sent chunked without a length, is a blob", each(func(x trial, a content.Algorithm) {
		b := a.Of(nil)
		x.stored(x.closes(x.begin(), b.Digest, stream(nil)), b)
		x.do("DELETE", "blobs/"+b.Digest).is(202)
		x.stored(x.closes(x.begin(), b.Digest), b)
	})},
	{postPut, "suite", "the empty JSON object is a blob", each(func(x trial, a content.Algorithm) {
		b := a.Of([]byte("{}"))
		x.stored(x.closes(x.begin(), b.Digest, octets(b.Bytes)), b)
	})},
	{postPut, "suite", "the Location may be used with its query sorted and encoded again", func(x trial) {
		b := x.novel(content.Digest, 99)
		x.stored(x.do("PUT", x.begin(), octets(b.Bytes), query("digest", b.Digest), query("aaa", "1")), b)
	}},
	{singlePost, "MAY", "POST with the digest and the content answers 201 with the Location of the blob", each(func(x trial, a content.Algorithm) {
		b := x.novel(a, 512)
		x.stored(x.do("POST", "blobs/uploads/", query("digest", b.Digest), octets(b.Bytes)), b)
	})},
	{singlePost, "MUST", "the digest matches the content: otherwise 400", each(func(x trial, a content.Algorithm) {
		b := x.novel(a, 3067)
		x.do("POST", "blobs/uploads/", query("digest", b.Digest), octets(append(b.Bytes[:3067:3067], 'x'))).is(400).code("DIGEST_INVALID")
		x.do("HEAD", "blobs/"+b.Digest).is(404)
	})},
	{singlePost, "suite", "an empty blob, sent chunked without a length, is a blob", each(func(x trial, a content.Algorithm) {
		b := a.Of(nil)
		x.stored(x.do("POST", "blobs/uploads/", query("digest", b.Digest), stream(nil)), b)
	})},
}

var mountRows = []row{
	{mounting, "MUST", "a mount from a repository that has the blob answers 201 with its Location", each(func(x trial, a content.Algorithm) {
		b := x.novel(a, 512)
		x.push(x.other, content.Set{Blobs: []content.Blob{b}})
		x.stored(x.do("POST", "blobs/uploads/", query("from", x.other), query("mount", b.Digest)), b)
	})},
	{mounting, "MAY", "without from, the blob is mounted from wherever it is", each(func(x trial, a content.Algorithm) {
		b := x.novel(a, 512)
		x.push(x.other, content.Set{Blobs: []content.Blob{b}})
		x.stored(x.do("POST", "blobs/uploads/", query("mount", b.Digest)), b)
	})},
	{mounting, "SHOULD", "a blob that the source does not have answers 202, and the session takes it", each(func(x trial, a content.Algorithm) {
		b := x.novel(a, 512)
		x.push(x.other, content.Set{Blobs: []content.Blob{a.Of([]byte("another"))}})
		location := x.do("POST", "blobs/uploads/", query("from", x.other), query("mount", b.Digest)).is(202).located()
		x.stored(x.closes(location, b.Digest, octets(b.Bytes)), b)
	})},
	{mounting, "SHOULD", "a source that does not exist answers 202", each(func(x trial, a content.Algorithm) {
		b := x.novel(a, 512)
		location := x.do("POST", "blobs/uploads/", query("from", x.fresh+"/nowhere"), query("mount", b.Digest)).is(202).located()
		x.stored(x.closes(location, b.Digest, octets(b.Bytes)), b)
	})},
	{mounting, "suite", "a mounted blob is deleted from each repository by itself", func(x trial) {
		b := x.novel(content.Digest, 512)
		x.push(x.other, content.Set{Blobs: []content.Blob{b}})
		x.do("POST", "blobs/uploads/", query("from", x.other), query("mount", b.Digest)).is(201)
		x.do("DELETE", "blobs/"+b.Digest).is(202)
		x.do("HEAD", "blobs/"+b.Digest).is(404)
		x.do("GET", "/v2/"+x.other+"/blobs/"+b.Digest).is(200).carries(b.Bytes)
		x.do("DELETE", "/v2/"+x.other+"/blobs/"+b.Digest).is(202)
		x.do("HEAD", "/v2/"+x.other+"/blobs/"+b.Digest).is(404)
	}},
	{mounting, "ours", "a malformed digest or source is 400", func(x trial) {
		x.do("POST", "blobs/uploads/", query("mount", "sha256:x"), query("from", x.other)).is(400).code("DIGEST_INVALID")
		x.do("POST", "blobs/uploads/", query("mount", content.Digest(nil)), query("from", "NOT/valid")).is(400).code("NAME_INVALID")
	}},
}
