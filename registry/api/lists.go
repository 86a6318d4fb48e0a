package api

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"berth/auth"
	"berth/registry"
)

const (
	// listBatch is how many names are asked of the domain at a time for a listing without a bound.
	listBatch = 20_000
	// streamAt is how many bytes of a listing are gathered before it is sent piece by piece.
	streamAt = 1 << 20
	// defaultCatalog is how many repositories are listed when the client does not say.
	defaultCatalog = 100
	// maxReferrers bounds a page of referrers in bytes: clients read indexes up to 4 MiB.
	maxReferrers = 3 << 20
)

// listTags answers with all tags or, when the client gives n, with a page of them.
func (a *API) listTags(c *call) error {
	head := `{"name":"` + c.name.String() + `","tags":[`
	if c.n < 0 {
		return a.streamTags(c, head)
	}
	n := min(c.n, a.o.MaxTags)
	tags, more, err := a.repository(c).Tags(c.r.Context(), c.last, n)
	if err != nil {
		return err
	}
	if more && len(tags) > 0 {
		a.linkNext(c, url.Values{"n": {itoa(int64(n))}, "last": {tags[len(tags)-1]}})
	}
	return writeBody(c.w, http.StatusOK, "application/json", append(appendNames([]byte(head), tags), "]}\n"...))
}

// streamTags lists all tags: in one piece when they are few, else piece by piece.
func (a *API) streamTags(c *call, head string) error {
	body, streaming := []byte(head), false
	for after, more := c.last, true; more; {
		var tags []string
		var err error
		if tags, more, err = a.repository(c).Tags(c.r.Context(), after, listBatch); err != nil {
			return err
		}
		if len(tags) == 0 {
			break
		}
		if after != c.last {
			body = append(body, ',')
		}
		body = appendNames(body, tags)
		after = tags[len(tags)-1]
		if len(body) < streamAt {
			continue
		}
		c.w.Header().Set("Content-Type", "application/json")
		send(c.w, body)
		body, streaming = body[:0], true
	}
	body = append(body, "]}\n"...)
	if !streaming {
		return writeBody(c.w, http.StatusOK, "application/json", body)
	}
	send(c.w, body)
	return nil
}

// appendNames appends names, of an alphabet that JSON does not escape, as the elements of an array.
func appendNames(b []byte, names []string) []byte {
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), name...), '"')
	}
	return b
}

// catalog lists the repositories that the client may see. The fewer of them it may, the more are asked of the domain at a time:
// each time costs a call of the store, or a look into large folders.
func (a *API) catalog(c *call) error {
	n := c.n
	if n < 0 {
		n = defaultCatalog
	}
	n = min(n, a.o.MaxCatalog)
	var names []string
	after, more := c.last, n > 0
	for size := max(n, defaultCatalog); more && len(names) < n; size = min(2*size, listBatch) {
		var page []registry.Name
		var err error
		if page, more, err = a.registry.Catalog(c.r.Context(), after, size); err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		for i, name := range page {
			after = name.String()
			if listed, err := a.lists(c, after); err != nil {
				return err
			} else if listed {
				names = append(names, after)
			}
			if len(names) == n {
				more = more || i < len(page)-1
				break
			}
		}
	}
	if more && len(names) > 0 {
		a.linkNext(c, url.Values{"n": {itoa(int64(n))}, "last": {names[len(names)-1]}})
	}
	body := appendNames([]byte(`{"repositories":[`), names)
	return writeBody(c.w, http.StatusOK, "application/json", append(body, "]}\n"...))
}

// lists reports whether the catalog shows a repository to who sent c: one that they may pull from, and with a token one that
// nothing but its scope keeps them from, since to be for the catalog is scope enough. That is how distribution lists.
func (a *API) lists(c *call, repository string) (bool, error) {
	err := a.authorizer.Authorize(c.r.Context(), c.subject, auth.Access{Action: auth.Pull, Repository: repository})
	var denied *auth.DeniedError
	switch {
	case errors.As(err, &denied):
		return denied.Scoped, nil
	case errors.Is(err, auth.ErrDenied):
		return false, nil
	}
	return err == nil, err
}

// listReferrers answers with an index of the manifests whose subject is the digest. There is always one, be it empty.
func (a *API) listReferrers(c *call) error {
	page, more, err := a.repository(c).Referrers(c.r.Context(), c.digest, c.artifactType, c.last, maxReferrers)
	if code := registry.CodeOf(err); err != nil && code != registry.NameUnknown && code != registry.ManifestUnknown {
		return err
	}
	body, err := indexOf(page)
	if err != nil {
		return err
	}
	next := url.Values{}
	if c.artifactType != "" {
		c.w.Header().Set("OCI-Filters-Applied", "artifactType")
		next.Set("artifactType", c.artifactType)
	}
	if more && len(page) > 0 {
		next.Set("last", page[len(page)-1].Digest)
		a.linkNext(c, next)
	}
	return writeBody(c.w, http.StatusOK, indexType, body)
}

const indexType = "application/vnd.oci.image.index.v1+json"

// indexOf is an index of descriptors: their JSON, as it is kept, joined.
func indexOf(page []registry.Descriptor) ([]byte, error) {
	parts := make([][]byte, len(page))
	size := 0
	for i, d := range page {
		part, err := d.MarshalJSON()
		if err != nil {
			return nil, err
		}
		parts[i] = part
		size += len(part) + 1
	}
	const head, tail = `{"schemaVersion":2,"mediaType":"` + indexType + `","manifests":[`, "]}"
	body := append(make([]byte, 0, len(head)+size+len(tail)), head...)
	for i, part := range parts {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, part...)
	}
	return append(body, tail...), nil
}

// linkNext tells where the next page is (RFC 8288).
func (a *API) linkNext(c *call, query url.Values) {
	path := strings.TrimPrefix(c.r.URL.Path, a.urls.prefix)
	c.w.Header().Set("Link", "<"+a.urls.path(c.r, path)+"?"+query.Encode()+`>; rel="next"`)
}
