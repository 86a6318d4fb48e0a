package gcstest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"berth/storage/remote/remotetest"
)

// upload serves an object in one request, or the beginning of a session.
func (s *Service) upload(r *http.Request, query url.Values, body []byte) remotetest.Answer {
	var about struct{ Name, Crc32c string }
	if query.Get("uploadType") == "resumable" {
		_ = json.Unmarshal(body, &about)
		if query.Has("name") {
			about.Name = query.Get("name")
		}
		if !s.holds(about.Name, query) {
			return Failure(http.StatusPreconditionFailed, "conditionNotMet")
		}
		s.serial++
		id := strconv.FormatInt(s.serial, 10)
		s.sessions[id] = &session{name: about.Name, cond: query}
		a := answer(struct{}{})
		a.Header.Set("Location", r.URL.Scheme+"://"+r.URL.Host+r.URL.Path+"?uploadType=resumable&userProject="+s.Payer+"&upload_id="+id)
		return a
	}
	_, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	parts := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	var content []byte
	for i := range 2 {
		part, err := parts.NextPart()
		if err != nil {
			return refusal400("invalid")
		}
		text, err := io.ReadAll(part)
		if err != nil {
			return refusal400("invalid")
		}
		if content = text; i == 0 {
			_ = json.Unmarshal(text, &about)
		}
	}
	if query.Has("name") {
		about.Name = query.Get("name")
	}
	if about.Crc32c != "" && about.Crc32c != checksum(content) {
		return refusal400("invalid")
	}
	return s.store(about.Name, content, query)
}

// store makes an object, under the condition of its upload.
func (s *Service) store(name string, body []byte, query url.Values) remotetest.Answer {
	if !s.holds(name, query) {
		return Failure(http.StatusPreconditionFailed, "conditionNotMet")
	}
	if s.early(name) {
		return Failure(http.StatusTooManyRequests, "rateLimitExceeded")
	}
	s.serial++
	s.written[name] = time.Now()
	s.Objects[name] = Object{Body: bytes.Clone(body), Generation: s.serial, Modified: time.Now(), KMS: query.Get("kmsKeyName")}
	return answer(s.resource(name, s.Objects[name]))
}

// resume serves a request of a session: a chunk, or the question where to go on.
func (s *Service) resume(r *http.Request, u *session, body []byte) remotetest.Answer {
	if u == nil {
		return Failure(http.StatusNotFound, "notFound")
	}
	if u.done != nil {
		return *u.done
	}
	span, total, ok := strings.Cut(strings.TrimPrefix(r.Header.Get("Content-Range"), "bytes "), "/")
	if !ok {
		return refusal400("invalid")
	}
	if span != "*" {
		var first, last int
		if _, err := fmt.Sscanf(span, "%d-%d", &first, &last); err != nil || last-first+1 != len(body) || first > len(u.body) ||
			total == "*" && len(body)%ChunkUnit != 0 {
			return refusal400("invalid")
		}
		if known := len(u.body) - first; known < len(body) {
			u.body = append(u.body, body[known:]...)
		}
	}
	if total == strconv.Itoa(len(u.body)) {
		if hash, ok := strings.CutPrefix(r.Header.Get("X-Goog-Hash"), "crc32c="); ok && hash != checksum(u.body) {
			return refusal400("invalid")
		}
		a := s.store(u.name, u.body, u.cond)
		if a.Status == http.StatusOK {
			u.done, u.body = &a, nil
		}
		return a
	}
	a := remotetest.Answer{Status: http.StatusPermanentRedirect, Header: http.Header{}}
	if r.Header.Get("X-Guploader-No-308") == "yes" {
		a.Status = http.StatusOK
		a.Header.Set("X-Http-Status-Code-Override", "308")
	}
	if len(u.body) > 0 {
		a.Header.Set("Range", fmt.Sprintf("bytes=0-%d", len(u.body)-1))
	}
	return a
}
