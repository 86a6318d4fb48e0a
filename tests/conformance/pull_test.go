package conformance

import (
	"strconv"
	"strings"

	"berth/tests/content"
)

const (
	pullManifests = "Pulling manifests"
	pullBlobs     = "Pulling blobs"
	exists        = "Checking if content exists in the registry"
)

var pullRows = []row{
	{pullManifests, "MUST", "GET of a manifest by tag and by digest answers 200 with the bytes that were pushed", each(func(x trial, a content.Algorithm) {
		set := x.image(a, nil)
		x.push(x.repo, set)
		x.put(set.Top().Digest, set.Top(), query("tag", "v1")).is(201)
		x.serves("v1", set.Top())
		x.serves(set.Top().Digest, set.Top())
	})},
	{pullManifests, "MUST", "the Content-Type is the media type that was pushed, without parameters", func(x trial) {
		set := x.pushed("v1")
		x.do("GET", "manifests/v1").is(200).has("Content-Type", set.Top().MediaType)
	}},
	{pullManifests, "MUST", "Docker-Content-Digest is the digest of the manifest returned", func(x trial) {
		set := x.pushed("v1")
		x.do("GET", "manifests/v1").is(200).has("Docker-Content-Digest", content.Digest(set.Top().Bytes))
	}},
	{pullManifests, "MUST", "a manifest that is not there is 404, by tag and by digest", func(x trial) {
		x.pushed("v1")
		x.do("GET", "manifests/missing-abcdefghijklmnopqrst").is(404).code("MANIFEST_UNKNOWN")
		x.do("GET", "manifests/"+content.Digest([]byte(x.repo))).is(404).code("MANIFEST_UNKNOWN")
		x.do("HEAD", "manifests/missing").is(404)
	}},
	{pullManifests, "MUST", "a repository that does not exist is 404", func(x trial) {
		x.repo = x.fresh
		x.do("GET", "manifests/latest").is(404).code("NAME_UNKNOWN")
		x.do("GET", "tags/list").is(404).code("NAME_UNKNOWN")
	}},
	{pullManifests, "MUST", "a name is lower-case components of the grammar, with . _ __ - between, and slashes", func(x trial) {
		for _, name := range []string{"a", "a/b/c/d/e/f", "a.b", "a_b", "a__b", "a-b", "a--b", "0", "a/0-1.x__y"} {
			x.repo = "conformance/names/" + name
			set := x.pushed("v1")
			x.serves("v1", set.Top())
		}
		for _, name := range []string{"A", "a..b", "a___b", "-a", "a-", "a//b", "a/_b", "a/.b", "a b", "a%2fb", "ä"} {
			if a := x.do("GET", "/v2/"+strings.ReplaceAll(name, " ", "%20")+"/manifests/latest"); a.Status < 400 || a.Status > 404 {
				x.Errorf("the name %q is answered with %d", name, a.Status)
			}
		}
	}},
	{pullManifests, "MUST", "a tag is 1 to 128 characters of the grammar", func(x trial) {
		longest := "a" + strings.Repeat("Z", 127)
		set := x.pushed("v1")
		for _, tag := range []string{"_", "0", "A.b-c_D", longest} {
			x.put(tag, set.Top()).is(201)
			x.serves(tag, set.Top())
		}
		for _, tag := range []string{longest + "x", ".a", "-a", "a+b", "a:b"} {
			x.put(tag, set.Top()).is(400)
			x.do("GET", "manifests/"+tag).is(400, 404)
		}
	}},
	{pullManifests, "suite", "several Accept lines, and one that does not match, return what was pushed", func(x trial) {
		set := x.pushed("v1")
		x.do("GET", "manifests/v1", header("Accept", content.ImageIndex, content.ImageManifest)).is(200).carries(set.Top().Bytes)
		x.do("GET", "manifests/v1", header("Accept", "application/vnd.docker.distribution.manifest.v2+json")).is(200).carries(set.Top().Bytes)
	}},
	{pullManifests, "suite", "what is neither a tag nor a digest is 404 to who asks for it", func(x trial) {
		x.pushed("v1")
		x.do("GET", "manifests/.INVALID_MANIFEST_NAME").is(404).code("MANIFEST_UNKNOWN")
		x.do("HEAD", "manifests/.INVALID_MANIFEST_NAME").is(404)
	}},
	{pullManifests, "suite", "a malformed digest is 404 or 400, never 500", func(x trial) {
		x.pushed("v1")
		x.do("GET", "manifests/sha256:baddigeststring").is(400, 404)
	}},
	{pullManifests, "suite", "a response is not compressed: its Content-Length is exact", func(x trial) {
		set := x.pushed("v1")
		x.do("GET", "manifests/v1", header("Accept-Encoding", "gzip")).is(200).carries(set.Top().Bytes).lacks("Content-Encoding")
		x.do("GET", "blobs/"+set.Blobs[0].Digest, header("Accept-Encoding", "gzip")).is(200).carries(set.Blobs[0].Bytes).lacks("Content-Encoding")
	}},
	{pullManifests, "ours", "If-None-Match with the ETag is 304 without a body", func(x trial) {
		x.pushed("v1")
		tag := x.do("GET", "manifests/v1").is(200).Header.Get("ETag")
		if tag == "" {
			x.Fatal("there is no ETag")
		}
		x.do("GET", "manifests/v1", header("If-None-Match", tag)).is(304)
		x.do("GET", "manifests/v1", header("If-None-Match", `"other"`)).is(200)
	}},
	{pullBlobs, "MUST", "GET of a blob answers 200 with its bytes and its digest", each(func(x trial, a content.Algorithm) {
		b := x.blob(a, 512)
		x.do("GET", "blobs/"+b.Digest).is(200).carries(b.Bytes).has("Docker-Content-Digest", b.Digest)
	})},
	{pullBlobs, "MUST", "a blob that is not in the repository is 404", each(func(x trial, a content.Algorithm) {
		x.pushed()
		x.do("GET", "blobs/"+a([]byte("missing "+x.repo))).is(404).code("BLOB_UNKNOWN")
	})},
	{pullBlobs, "ours", "a blob of another repository is 404: a digest is no capability", func(x trial) {
		b := x.blob(content.Digest, 600)
		x.do("GET", "/v2/"+x.fresh+"/blobs/"+b.Digest).is(404)
		x.push(x.fresh, content.Set{Blobs: []content.Blob{content.Random(x.fresh, 10)}})
		x.do("GET", "/v2/"+x.fresh+"/blobs/"+b.Digest).is(404).code("BLOB_UNKNOWN")
	}},
	{exists, "MUST", "HEAD of a manifest or blob answers 200, its digest, its size and no body", each(func(x trial, a content.Algorithm) {
		set := x.image(a, nil)
		x.push(x.repo, set)
		for _, b := range set.Blobs {
			x.do("HEAD", "blobs/"+b.Digest).is(200).has("Docker-Content-Digest", b.Digest).has("Content-Length", strconv.Itoa(len(b.Bytes)))
		}
		m := set.Top()
		x.do("HEAD", "manifests/"+m.Digest).is(200).has("Docker-Content-Digest", m.Digest).has("Content-Length", strconv.Itoa(len(m.Bytes)))
	})},
	{exists, "MUST", "HEAD of what is not there is 404", func(x trial) {
		x.pushed()
		missing := content.Digest([]byte("missing " + x.repo))
		x.do("HEAD", "blobs/"+missing).is(404)
		x.do("HEAD", "manifests/"+missing).is(404)
		x.do("HEAD", "/v2/"+x.fresh+"/blobs/"+missing).is(404)
	}},
	{exists, "suite", "an empty blob has Content-Length 0 on GET and HEAD", each(func(x trial, a content.Algorithm) {
		b := x.blob(a, 0)
		x.do("GET", "blobs/"+b.Digest).is(200).carries(nil)
		x.do("HEAD", "blobs/"+b.Digest).is(200).has("Content-Length", "0")
	})},
	{exists, "ours", "HEAD has the headers of GET", func(x trial) {
		set := x.pushed("v1")
		for _, path := range []string{"manifests/v1", "blobs/" + set.Blobs[0].Digest, "tags/list", "referrers/" + set.Top().Digest} {
			get, head := x.do("GET", path).is(200), x.do("HEAD", path).is(200)
			for _, key := range []string{"Content-Type", "Content-Length", "Docker-Content-Digest", "Etag", "Accept-Ranges"} {
				if g, h := get.Header.Get(key), head.Header.Get(key); g != h {
					x.Errorf("%s: HEAD has %s %q, GET %q", path, key, h, g)
				}
			}
		}
	}},
}

// rangeCase is a Range of a blob of 2,048 bytes and what it selects.
type rangeCase struct {
	header   string
	from, to int // to is excluded; from < 0: 416
}

var rangeCases = []rangeCase{
	{"bytes=500-1499", 500, 1500},
	{"bytes=500-", 500, 2048},
	{"bytes=-500", 1548, 2048},
	{"bytes=2000-5000", 2000, 2048},
	{"bytes=0-0", 0, 1},
	{"bytes=2047-2047", 2047, 2048},
	{"bytes=-5000", 0, 2048},
	{"bytes=500-0", -1, 0},
	{"bytes=5000-10000", -1, 0},
	{"bytes=2048-", -1, 0},
	{"bytes=-0", -1, 0},
}

var rangeRows = []row{
	{"Pulling blobs: range requests", "SHOULD", "a Range is answered with 206, exactly its bytes, and where they are; one that cannot be met with 416", each(func(x trial, a content.Algorithm) {
		b := x.blob(a, 2048)
		for _, c := range rangeCases {
			got := x.do("GET", "blobs/"+b.Digest, header("Range", c.header))
			if c.from < 0 {
				got.is(416).has("Content-Range", "bytes */2048")
				continue
			}
			where := "bytes " + strconv.Itoa(c.from) + "-" + strconv.Itoa(c.to-1) + "/2048"
			got.is(206).carries(b.Bytes[c.from:c.to]).has("Content-Range", where)
		}
	})},
	{"Pulling blobs: range requests", "ours", "several ranges are multipart, or the whole blob", func(x trial) {
		b := x.blob(content.Digest, 2048)
		a := x.do("GET", "blobs/"+b.Digest, header("Range", "bytes=0-9,100-109")).is(200, 206)
		if a.Status == 206 && !strings.HasPrefix(a.Header.Get("Content-Type"), "multipart/byteranges") {
			x.Errorf("the Content-Type is %q", a.Header.Get("Content-Type"))
		}
	}},
	{"Pulling blobs: range requests", "ours", "If-Range with another ETag returns the whole blob", func(x trial) {
		b := x.blob(content.Digest, 2048)
		tag := x.do("GET", "blobs/"+b.Digest).is(200).Header.Get("ETag")
		x.do("GET", "blobs/"+b.Digest, header("Range", "bytes=0-9"), header("If-Range", tag)).is(206).carries(b.Bytes[:10])
		x.do("GET", "blobs/"+b.Digest, header("Range", "bytes=0-9"), header("If-Range", `"other"`)).is(200).carries(b.Bytes)
	}},
}
