package api

import (
	"bytes"
	"io"
	"net/http"
	"strings"

	"berth/registry"
)

// getManifest answers GET and HEAD. What Accept says is ignored: content is returned as it was pushed, or not at all.
func (a *API) getManifest(c *call) error {
	m, err := a.repository(c).Manifest(c.r.Context(), c.reference)
	if err != nil {
		return err
	}
	h := c.w.Header()
	h["Docker-Content-Digest"] = []string{m.Digest.String()}
	h["Etag"] = []string{etag(m.Digest)}
	if done, err := unchanged(c.w, c.r, m.Digest); done || err != nil {
		return err
	}
	return writeBody(c.w, http.StatusOK, m.MediaType, m.Body)
}

func (a *API) putManifest(c *call) error {
	push := registry.ManifestPush{Reference: c.reference, Tags: c.tags, MediaType: mediaType(c.r), By: c.subject.Name}
	push.KeepTags = a.o.MayMoveTags != nil && !a.o.MayMoveTags(&c.subject, c.name.String())
	if err := a.conditions(c, &push); err != nil {
		return err
	}
	var err error
	if push.Body, err = a.readManifest(c); err != nil {
		return err
	}
	m, err := a.repository(c).PutManifest(c.r.Context(), push)
	if err != nil {
		return err
	}
	h := c.w.Header()
	h.Set("Location", a.urls.location(c.r, manifestPath(c.name.String(), m.Digest.String())))
	h.Set("Docker-Content-Digest", m.Digest.String())
	h.Set("ETag", etag(m.Digest))
	if !m.Subject.IsZero() {
		h.Set("OCI-Subject", m.Subject.String())
	}
	for _, t := range c.tags {
		h.Add("OCI-Tag", t.String())
	}
	return writeEmpty(c.w, http.StatusCreated)
}

// mediaType returns the Content-Type without its parameters, which the specification tells registries to ignore.
func mediaType(r *http.Request) string {
	t, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.TrimSpace(t)
}

// readManifest reads the body within its bound, and nothing of one that announces to be larger.
func (a *API) readManifest(c *call) ([]byte, error) {
	tooLarge := &registry.Error{Code: registry.ManifestTooLarge,
		Message: "a manifest has at most " + itoa(a.o.MaxManifest) + " bytes (validation.manifests.maxsize)"}
	if c.r.ContentLength > a.o.MaxManifest {
		return nil, tooLarge
	}
	const first = 16 << 10 // an announced size is not worth more memory than this
	buffer := bytes.NewBuffer(make([]byte, 0, min(max(c.r.ContentLength, 0), first)+bytes.MinRead))
	if _, err := buffer.ReadFrom(io.LimitReader(c.body(), a.o.MaxManifest+1)); err != nil {
		return nil, err
	}
	if int64(buffer.Len()) > a.o.MaxManifest {
		return nil, tooLarge
	}
	return buffer.Bytes(), nil
}

// conditions reads the conditions of a push by tag (If-Match, If-None-Match: *), which the domain checks at the moment
// it moves the tag.
func (a *API) conditions(c *call, push *registry.ManifestPush) error {
	match, none := c.r.Header["If-Match"], c.r.Header["If-None-Match"]
	if match == nil && none == nil {
		return nil
	}
	if !c.reference.IsTag() {
		return invalid("conditions are for a push by tag")
	}
	if none != nil {
		if len(none) != 1 || strings.TrimSpace(none[0]) != "*" {
			return invalid("the only If-None-Match of a push is *")
		}
		push.IfAbsent = true
	}
	if match == nil {
		return nil
	}
	for tag := range strings.SplitSeq(strings.Join(match, ","), ",") {
		if tag = strings.TrimSpace(tag); tag == "*" {
			m, err := a.repository(c).Manifest(c.r.Context(), c.reference)
			if code := registry.CodeOf(err); err != nil && code != registry.ManifestUnknown && code != registry.NameUnknown {
				return err
			} else if err == nil {
				push.IfMatch = append(push.IfMatch, m.Digest)
			}
		} else if d, err := registry.ParseDigest(bareTag(tag)); err == nil {
			push.IfMatch = append(push.IfMatch, d)
		}
	}
	if len(push.IfMatch) == 0 {
		return &registry.Error{Code: registry.PreconditionFailed, Message: "If-Match names nothing that the tag points at"}
	}
	return nil
}

// deleteRepository removes all that a repository has. Who may delete each manifest of it may delete it as a whole, unless it
// has an immutable tag.
func (a *API) deleteRepository(c *call) error {
	if _, err := a.repository(c).Remove(c.r.Context(), false); err != nil {
		return err
	}
	return writeEmpty(c.w, http.StatusAccepted)
}

// deleteManifest deletes a manifest by digest, or a tag.
func (a *API) deleteManifest(c *call) (err error) {
	if c.r.Header["If-Match"] != nil || c.r.Header["If-None-Match"] != nil {
		return invalid("a delete takes no conditions")
	}
	if c.reference.IsTag() {
		err = a.repository(c).DeleteTag(c.r.Context(), c.reference.Tag)
	} else {
		err = a.repository(c).DeleteManifest(c.r.Context(), c.reference.Digest)
	}
	if err != nil {
		return err
	}
	return writeEmpty(c.w, http.StatusAccepted)
}
