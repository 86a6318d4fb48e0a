package conformance

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"berth/tests/content"
)

const (
	chunks    = "Pushing a blob in chunks"
	cancels   = "Cancel a blob upload"
	chunkSize = 1024
	chunked   = 3*chunkSize - 5 // bytes of the blobs sent in chunks: two whole ones and a shorter
)

// patch sends the chunk of a blob from start on and returns where to go on.
func (x trial) patch(location string, b content.Blob, start int) string {
	x.Helper()
	end := min(start+chunkSize, len(b.Bytes))
	a := x.do("PATCH", location, chunk(b.Bytes[start:end], start)).is(202).has("Range", "0-"+strconv.Itoa(end-1))
	return a.located()
}

// refused sends the chunk of a blob from start on, which does not belong there, and asks where the upload stands: at
// received bytes.
func (x trial) refused(method, location string, b content.Blob, start, received int) string {
	x.Helper()
	end := min(start+chunkSize, len(b.Bytes))
	options := []option{chunk(b.Bytes[start:end], start)}
	if method == "PUT" {
		options = append(options, query("digest", b.Digest))
	}
	x.do(method, location, options...).is(416)
	status := x.do("GET", location, options[1:]...).is(204)
	if want := fmt.Sprintf("0-%d", max(received-1, 0)); status.Header.Get("Range") != want {
		x.Fatalf("the status of the upload has Range %q, not %q", status.Header.Get("Range"), want)
	}
	return status.located()
}

// eachWay runs a check with the last chunk sent by PATCH, and with it sent by the closing PUT.
func eachWay(check func(x trial, a content.Algorithm, last string)) func(trial) {
	return each(func(x trial, a content.Algorithm) {
		for _, last := range []string{"PATCH", "PUT"} {
			x.Run(last, func(t *testing.T) {
				check(x.with(t), a, last)
			})
		}
	})
}

// finish sends the last chunk and closes.
func (x trial) finish(location string, b content.Blob, last string) answer {
	x.Helper()
	const start = 2 * chunkSize
	if last == "PUT" {
		return x.closes(location, b.Digest, chunk(b.Bytes[start:], start))
	}
	return x.closes(x.patch(location, b, start), b.Digest)
}

var chunkRows = []row{
	{chunks, "MUST", "each chunk answers 202, a Location and the Range received; PUT answers 201 and the Location of the blob", eachWay(func(x trial, a content.Algorithm, last string) {
		b := x.novel(a, chunked)
		location := x.patch(x.begin(), b, 0)
		location = x.patch(location, b, chunkSize)
		x.stored(x.finish(location, b, last), b)
	})},
	{chunks, "MUST", "one chunk may be all", each(func(x trial, a content.Algorithm) {
		b := x.novel(a, 512)
		location := x.do("PATCH", x.begin(), chunk(b.Bytes, 0)).is(202).has("Range", "0-511").located()
		x.stored(x.closes(location, b.Digest), b)
	})},
	{chunks, "MUST", "a chunk out of order is 416, by PATCH and by PUT, and the upload goes on where it stood", eachWay(func(x trial, a content.Algorithm, last string) {
		b := x.novel(a, chunked)
		location := x.refused("PATCH", x.begin(), b, chunkSize, 0)
		location = x.patch(location, b, 0)
		location = x.refused(last, location, b, 2*chunkSize, chunkSize)
		location = x.patch(location, b, chunkSize)
		location = x.refused("PATCH", location, b, 0, 2*chunkSize)
		x.stored(x.finish(location, b, last), b)
	})},
	{chunks, "MUST", "the first chunk begins with 0", func(x trial) {
		b := x.novel(content.Digest, chunked)
		x.do("PATCH", x.begin(), chunk(b.Bytes[1:], 1)).is(416)
	}},
	{chunks, "MUST", "GET of a session answers 204, its Location and the Range received", func(x trial) {
		b := x.novel(content.Digest, chunked)
		location := x.patch(x.begin(), b, 0)
		status := x.do("GET", location).is(204).has("Range", "0-1023")
		x.patch(status.located(), b, chunkSize)
	}},
	{chunks, "MUST", "a Content-Range is two numbers; what is not, or contradicts the length, is refused and changes nothing", func(x trial) {
		b := x.novel(content.Digest, chunked)
		location := x.patch(x.begin(), b, 0)
		for _, bad := range []string{"1024", "1024-", "-1", "a-b", "2047-1024", "1024-2000", "1024-99999999999999999999"} {
			x.do("PATCH", location, chunk(b.Bytes[chunkSize:2*chunkSize], chunkSize), header("Content-Range", bad)).is(400, 416)
		}
		x.do("GET", location).is(204).has("Range", "0-1023")
		x.stored(x.finish(x.patch(location, b, chunkSize), b, "PUT"), b)
	}},
	{chunks, "SHOULD", "a digest that the chunks do not have is 400, and nothing is stored", eachWay(func(x trial, a content.Algorithm, last string) {
		b := x.novel(a, chunked)
		broken := content.Blob{Bytes: append([]byte("junk!"), b.Bytes[5:]...), Digest: b.Digest}
		location := x.patch(x.patch(x.begin(), broken, 0), broken, chunkSize)
		x.finish(location, broken, last).is(400).code("DIGEST_INVALID")
		x.do("HEAD", "blobs/"+b.Digest).is(404)
	})},
	{chunks, "suite", "a streamed PATCH without Content-Range and Content-Length is appended", each(func(x trial, a content.Algorithm) {
		b := x.novel(a, 512)
		location := x.do("PATCH", x.begin(), stream(b.Bytes), header("Content-Type", content.OctetStream)).is(202).has("Range", "0-511").located()
		x.stored(x.closes(location, b.Digest), b)
	})},
	{chunks, "suite", "a streamed PATCH whose content has another digest is 202, and its PUT 400", each(func(x trial, a content.Algorithm) {
		b := x.novel(a, chunked)
		location := x.do("PATCH", x.begin(), stream(append(b.Bytes[:chunked:chunked], 'x'))).is(202).located()
		x.closes(location, b.Digest).is(400)
	})},
	{chunks, "suite", "sha512 need not be announced: the digest of the PUT decides", func(x trial) {
		b := x.novel(content.Digest512, chunked)
		x.stored(x.finish(x.patch(x.patch(x.begin(), b, 0), b, chunkSize), b, "PATCH"), b)
	}},
	{chunks, "SHOULD", "digest-algorithm announces the algorithm; either digest may close the upload", each(func(x trial, a content.Algorithm) {
		for name, announced := range algorithms {
			b := x.novel(a, chunked)
			location := x.begin(query("digest-algorithm", name))
			x.stored(x.finish(x.patch(x.patch(location, b, 0), b, chunkSize), b, "PUT"), b)
			c := announced.Of([]byte("one request " + name))
			x.stored(x.closes(x.begin(query("digest-algorithm", name)), c.Digest, octets(c.Bytes)), c)
		}
	})},
	{chunks, "SHOULD", "an unknown digest-algorithm is 400", func(x trial) {
		x.do("POST", "blobs/uploads/", query("digest-algorithm", "md5")).is(400)
		x.do("POST", "blobs/uploads/", query("digest-algorithm", "")).is(202, 400)
	}},
	{chunks, "SHOULD", "OCI-Chunk-Min-Length, if there, is a number of bytes", func(x trial) {
		if least := x.do("POST", "blobs/uploads/").is(202).Header.Get("OCI-Chunk-Min-Length"); least != "" {
			if n, err := strconv.Atoi(least); err != nil || n < 1 {
				x.Errorf("OCI-Chunk-Min-Length is %q", least)
			}
		}
	}},
	{chunks, "suite", "an empty blob is POST and PUT without a chunk", each(func(x trial, a content.Algorithm) {
		b := a.Of(nil)
		x.stored(x.closes(x.begin(), b.Digest), b)
	})},
	{chunks, "ours", "a Content-Range of the form that HTTP has is read as well", func(x trial) {
		b := x.novel(content.Digest, chunked)
		location := x.patch(x.begin(), b, 0)
		x.do("PATCH", location, chunk(b.Bytes[chunkSize:2*chunkSize], chunkSize), header("Content-Range", "bytes 1024-2047/*")).is(202).has("Range", "0-2047")
	}},
	{chunks, "ours", "an empty chunk changes nothing", func(x trial) {
		b := x.novel(content.Digest, chunked)
		location := x.patch(x.begin(), b, 0)
		location = x.do("PATCH", location, stream(nil)).is(202).has("Range", "0-1023").located()
		x.stored(x.finish(x.patch(location, b, chunkSize), b, "PATCH"), b)
	}},
}

var sessionRows = []row{
	{chunks, "MUST", "an unknown session is 404 for every method", func(x trial) {
		unknown := "blobs/uploads/6b3c9a93-af5d-473f-a4ff-9710022185cd"
		x.do("GET", unknown).is(404).code("BLOB_UPLOAD_UNKNOWN")
		x.do("PATCH", unknown, octets([]byte("x"))).is(404).code("BLOB_UPLOAD_UNKNOWN")
		x.closes(unknown, content.Digest([]byte("x")), octets([]byte("x"))).is(404).code("BLOB_UPLOAD_UNKNOWN")
		x.do("DELETE", unknown).is(404).code("BLOB_UPLOAD_UNKNOWN")
	}},
	{chunks, "ours", "a session belongs to its repository", func(x trial) {
		moved := strings.Replace(x.begin(), "/"+x.repo+"/", "/"+x.other+"/", 1)
		x.do("PATCH", moved, octets([]byte("x"))).is(404).code("BLOB_UPLOAD_UNKNOWN")
	}},
	{chunks, "ours", "a closed session answers 201 again for its digest, and refuses another", func(x trial) {
		b := x.novel(content.Digest, 512)
		location := x.do("PATCH", x.begin(), octets(b.Bytes)).is(202).located()
		x.stored(x.closes(location, b.Digest), b)
		x.stored(x.closes(location, b.Digest), b)
		if a := x.closes(location, content.Digest([]byte("other"))); a.Status/100 != 4 {
			x.Errorf("another digest is answered with %d", a.Status)
		}
	}},
	{cancels, "SHOULD", "DELETE of a session answers 204, and the session is gone", each(func(x trial, a content.Algorithm) {
		b := x.novel(a, chunked)
		fresh := x.begin()
		x.do("DELETE", fresh).is(204)
		x.do("GET", fresh).is(404)
		begun := x.patch(x.begin(), b, 0)
		x.do("DELETE", begun).is(204)
		x.do("GET", begun).is(404)
		x.do("PATCH", begun, chunk(b.Bytes[chunkSize:2*chunkSize], chunkSize)).is(404)
		x.closes(begun, b.Digest, octets(b.Bytes)).is(404)
	})},
}
