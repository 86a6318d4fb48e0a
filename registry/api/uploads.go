package api

import (
	"context"
	"net/http"

	"berth/auth"
	"berth/registry"
)

// startUpload answers POST: it mounts a blob, stores one that came with the request, or begins an upload.
func (a *API) startUpload(c *call) error {
	if !c.mount.IsZero() {
		if mounted, err := a.mountBlob(c); mounted || err != nil {
			return err
		}
	} else if !c.digest.IsZero() {
		b, err := a.repository(c).PushBlob(c.r.Context(), c.digest, c.body(), c.r.ContentLength)
		if err != nil {
			return err
		}
		return a.writeCreated(c, b)
	}
	u := a.repository(c).NewUpload(c.subject.Name, c.algorithm)
	if a.o.ChunkMinLength > 0 {
		c.w.Header().Set("OCI-Chunk-Min-Length", itoa(a.o.ChunkMinLength))
	}
	a.setUpload(c, u)
	return writeEmpty(c.w, http.StatusAccepted)
}

// mountBlob tries to mount a blob, and answers when it could. Where it cannot (the source lacks the blob, or the client
// may not pull from it) the client is to upload, and is not told why.
func (a *API) mountBlob(c *call) (mounted bool, err error) {
	ctx, from := c.r.Context(), c.from
	if from.String() == "" {
		if from, err = a.repository(c).BlobOrigin(ctx, c.mount); err != nil {
			return false, unlessUnknown(err)
		}
	}
	allowed, err := a.may(c, auth.Access{Action: auth.Pull, Repository: from.String()})
	if err != nil || !allowed {
		return false, err
	}
	b, err := a.repository(c).MountBlob(ctx, c.mount, from)
	if err != nil {
		return false, unlessUnknown(err)
	}
	return true, a.writeCreated(c, b)
}

// unlessUnknown drops the error that there is no such blob or repository.
func unlessUnknown(err error) error {
	if code := registry.CodeOf(err); code == registry.BlobUnknown || code == registry.NameUnknown {
		return nil
	}
	return err
}

func (a *API) uploadStatus(c *call) error {
	u, err := a.upload(c)
	if err != nil {
		return err
	}
	a.setUpload(c, u)
	return writeEmpty(c.w, http.StatusNoContent)
}

func (a *API) patchUpload(c *call) error {
	return a.continueUpload(c, func(ctx context.Context, u *registry.Upload, chunk registry.Chunk) error {
		if err := u.Append(ctx, chunk); err != nil {
			return err
		}
		a.setUpload(c, u)
		return writeEmpty(c.w, http.StatusAccepted)
	})
}

func (a *API) closeUpload(c *call) error {
	return a.continueUpload(c, func(ctx context.Context, u *registry.Upload, chunk registry.Chunk) error {
		b, err := u.Commit(ctx, c.digest, chunk)
		if err != nil {
			return err
		}
		return a.writeCreated(c, b)
	})
}

// continueUpload gives the chunk that c carries to next. A chunk that does not fit is told where the upload stands.
func (a *API) continueUpload(c *call, next func(context.Context, *registry.Upload, registry.Chunk) error) error {
	start, end, err := parseContentRange(c.r.Header.Get("Content-Range"))
	if err != nil {
		return err
	}
	u, err := a.upload(c)
	if err != nil {
		return err
	}
	chunk := registry.Chunk{Size: c.r.ContentLength, Start: start, End: end}
	if c.r.ContentLength != 0 || c.r.Method == http.MethodPatch {
		chunk.Body = c.body()
	}
	err = next(c.r.Context(), u, chunk)
	if registry.CodeOf(err) == registry.RangeInvalid {
		a.setUpload(c, u)
	}
	return err
}

func (a *API) cancelUpload(c *call) error {
	u, err := a.upload(c)
	if err != nil {
		return err
	}
	if err := u.Cancel(c.r.Context()); err != nil {
		return err
	}
	return writeEmpty(c.w, http.StatusNoContent)
}

func (a *API) upload(c *call) (*registry.Upload, error) {
	return a.repository(c).Upload(c.r.Context(), c.subject.Name, c.request.upload)
}

// setUpload sets the headers that tell where an upload stands. Nothing received is "0-0", as clients have come to expect.
func (a *API) setUpload(c *call, u *registry.Upload) {
	h := c.w.Header()
	h.Set("Location", a.urls.location(c.r, uploadPath(c.name.String(), u.ID())))
	h.Set("Docker-Upload-UUID", u.UUID())
	h.Set("Range", "0-"+itoa(max(u.Offset()-1, 0)))
}

// writeCreated answers that a blob is there.
func (a *API) writeCreated(c *call, b *registry.Blob) error {
	h := c.w.Header()
	h.Set("Location", a.urls.location(c.r, blobPath(c.name.String(), b.Digest.String())))
	h.Set("Docker-Content-Digest", b.Digest.String())
	return writeEmpty(c.w, http.StatusCreated)
}
