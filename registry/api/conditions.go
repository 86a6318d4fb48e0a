package api

import (
	"math"
	"net/http"
	"strconv"
	"strings"

	"berth/registry"
	"berth/registry/observe"
)

// etag is the entity tag of content with a digest: strong, since content is served byte by byte as it was pushed.
func etag(d registry.Digest) string { return `"` + d.String() + `"` }

// matches reports whether an If-Match or If-None-Match header names the digest d, quoted as HTTP has it or bare as some
// clients send it. "*" names anything.
func matches(header []string, d registry.Digest) bool {
	for _, value := range header {
		for tag := range strings.SplitSeq(value, ",") {
			if tag = strings.TrimSpace(tag); tag == "*" || bareTag(tag) == d.String() {
				return true
			}
		}
	}
	return false
}

func bareTag(tag string) string {
	return strings.Trim(strings.TrimPrefix(tag, "W/"), `"`)
}

// unchanged checks the preconditions of a GET or HEAD of content with the digest d (RFC 9110 section 13.2.2). done says
// that it was answered.
func unchanged(w *observe.Exchange, r *http.Request, d registry.Digest) (done bool, err error) {
	if header := r.Header["If-Match"]; header != nil && !matches(header, d) {
		return false, &registry.Error{Code: registry.PreconditionFailed, Message: "the content is " + d.String() + ", which If-Match does not name"}
	}
	if header := r.Header["If-None-Match"]; header != nil && matches(header, d) {
		w.WriteHeader(http.StatusNotModified)
		return true, nil
	}
	return false, nil
}

// maxRanges bounds the ranges of one request; one that asks for more gets the whole (RFC 9110 section 14.2 allows that). podman and
// CRI-O ask for as many at most, of a layer of which they have most files, and take it all if they are not given them.
const maxRanges = 1024

// A rangeVerdict says what to do with a Range header.
type rangeVerdict uint8

const (
	rangeServe         rangeVerdict = iota // it is well-formed, and has something to serve
	rangeIgnore                            // serve the whole
	rangeUnsatisfiable                     // 416
)

// judgeRange looks at a Range header before http.ServeContent does, which knows no bound and refuses other units. With
// rangeServe it returns what is asked for, and how many bytes that is: no more than the whole.
func judgeRange(header string, size int64) (v rangeVerdict, spans []registry.Span, bytes int64) {
	specs, ok := strings.CutPrefix(header, "bytes=")
	switch {
	case !ok && strings.Contains(header, "="), size == 0:
		return rangeIgnore, nil, 0
	case !ok:
		return rangeUnsatisfiable, nil, 0
	case strings.Count(specs, ",") >= maxRanges:
		return rangeIgnore, nil, 0
	}
	for spec := range strings.SplitSeq(specs, ",") {
		if spec = strings.Trim(spec, " \t"); spec == "" {
			continue
		}
		first, last, ok := strings.Cut(spec, "-")
		if !ok {
			return rangeUnsatisfiable, nil, 0
		}
		start, n, ok := reachesInto(first, last, size)
		if !ok {
			return rangeUnsatisfiable, nil, 0
		}
		if n > 0 {
			spans = append(spans, registry.Span{From: start, N: n})
		}
		bytes = min(bytes, math.MaxInt64-n) + n
	}
	switch {
	case bytes == 0:
		return rangeUnsatisfiable, nil, 0
	case bytes > size:
		return rangeIgnore, nil, 0
	}
	return rangeServe, spans, bytes
}

// reachesInto returns where a range begins and how many bytes it has of a content's; ok is false when it is malformed.
func reachesInto(first, last string, size int64) (start, n int64, ok bool) {
	if first == "" {
		n, err := strconv.ParseUint(last, 10, 63)
		return max(0, size-int64(n)), min(int64(n), size), err == nil
	}
	from, err := strconv.ParseUint(first, 10, 63)
	if err != nil {
		return 0, 0, false
	}
	end := uint64(size) - 1
	if last != "" {
		if end, err = strconv.ParseUint(last, 10, 63); err != nil || end < from {
			return 0, 0, false
		}
	}
	return int64(from), max(0, min(int64(end), size-1)+1-int64(from)), true
}

// parseContentRange reads the Content-Range of a chunk: "a-b" as the OCI specification has it, or "bytes a-b/…" as HTTP
// has it. Without the header it returns -1, -1.
func parseContentRange(header string) (start, end int64, err error) {
	if header == "" {
		return -1, -1, nil
	}
	spec, isHTTP := strings.CutPrefix(header, "bytes ")
	if isHTTP {
		spec, _, _ = strings.Cut(spec, "/")
	}
	first, last, ok := strings.Cut(spec, "-")
	from, err1 := strconv.ParseUint(first, 10, 63)
	to, err2 := strconv.ParseUint(last, 10, 63)
	if !ok || err1 != nil || err2 != nil || to < from {
		return 0, 0, &registry.Error{Code: registry.UploadInvalid, Message: "the Content-Range of a chunk must be <first byte>-<last byte>"}
	}
	return int64(from), int64(to), nil
}
