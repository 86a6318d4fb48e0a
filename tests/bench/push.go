package main

import (
	"bytes"
	"fmt"
	"strconv"

	"berth/tests/bench/wire"
)

// uploads returns the path where uploads to a repository begin.
func uploads(repository string) string { return "/v2/" + repository + "/blobs/uploads/" }

// appendLocation appends the path of a Location, which may be a whole URL, ready for a parameter to follow.
func appendLocation(b, location []byte) []byte {
	if _, rest, ok := bytes.Cut(location, []byte("://")); ok {
		location = rest[max(0, bytes.IndexByte(rest, '/')):]
	}
	b = append(b, location...)
	if bytes.IndexByte(location, '?') >= 0 {
		return append(b, '&')
	}
	return append(b, '?')
}

// A pusher pushes blobs of one size to a repository, by POST and PUT, or by a single POST. Not safe for concurrent use.
type pusher struct {
	*series
	single bool

	begin []byte // the POST that begins an upload, or what a single POST begins with
	rest  []byte // of the head after the digest
	head  []byte
}

func newPusher(repository string, content *series, single bool) *pusher {
	p := &pusher{series: content, single: single}
	method := "PUT"
	if single {
		method = "POST"
		p.begin = []byte("POST " + uploads(repository) + "?")
	} else {
		p.begin = wire.Request{Method: "POST", Path: uploads(repository)}.Head()
	}
	p.rest = wire.Request{Method: method, Header: "Content-Type: application/octet-stream\r\n", Length: content.size()}.AppendRest(nil)
	return p
}

// push pushes the next content.
func (p *pusher) push(c *wire.Client) error {
	if err := p.next(); err != nil {
		return err
	}
	if p.single {
		p.head = append(p.head[:0], p.begin...)
	} else {
		if err := c.Do(202, p.begin, nil, nil); err != nil {
			return err
		}
		p.head = appendLocation(append(p.head[:0], "PUT "...), c.Location)
	}
	p.head = append(append(append(p.head, "digest="...), p.digest...), p.rest...)
	return c.Do(201, p.head, p.body, p.tail)
}

// pushBlob pushes one blob, for a store to be filled.
func pushBlob(c *wire.Client, repository string, content []byte, mediaType string) (part, error) {
	if err := c.Do(202, wire.Request{Method: "POST", Path: uploads(repository)}.Head(), nil, nil); err != nil {
		return part{}, err
	}
	p := part{mediaType: mediaType, digest: digestOf(content), size: len(content)}
	path := string(appendLocation(nil, c.Location)) + "digest=" + p.digest
	put := wire.Request{Method: "PUT", Path: path, Header: "Content-Type: application/octet-stream\r\n", Length: len(content)}
	return p, c.Do(201, put.Head(), content, nil)
}

// pushManifest pushes one manifest.
func pushManifest(c *wire.Client, repository, reference string, manifest []byte) (part, error) {
	put := wire.Request{
		Method: "PUT", Path: "/v2/" + repository + "/manifests/" + reference,
		Header: "Content-Type: " + imageType + "\r\n", Length: len(manifest),
	}
	p := part{mediaType: imageType, digest: digestOf(manifest), size: len(manifest)}
	return p, c.Do(201, put.Head(), manifest, nil)
}

// blobPush is the operation of pushing blobs, each client to a repository of its own.
func blobPush(size int, single bool) func(*server) (*load, error) {
	return func(s *server) (*load, error) {
		body := noise(size-tailSize, 1)
		var pushers []*pusher
		return &load{
			worker: func(n int) (step, error) {
				p := newPusher(workerRepository(n), newSeries(body, n), single)
				pushers = append(pushers, p)
				return p.push, nil
			},
			verify: func() error {
				return each(s, 1, len(pushers), func(c *wire.Client, n int) error {
					return checkPushed(c, workerRepository(n), pushers[n].series)
				})
			},
		}, nil
	}
}

func workerRepository(n int) string { return fmt.Sprintf("bench/worker%d", n) }

// checkPushed looks whether a server has the content that a series is at.
func checkPushed(c *wire.Client, repository string, content *series) error {
	digest := string(content.digest)
	return check(c, sample{path: "/v2/" + repository + "/blobs/" + digest, size: int64(content.size()), digest: digest})
}

// An imagePusher pushes images of a configuration, five layers and a manifest by tag. Not safe for concurrent use.
type imagePusher struct {
	blobs    []*pusher
	tag      int
	manifest []byte // a manifest of which only the digests change
	digests  []int  // where those are in it
	path     []byte
	rest     []byte
	head     []byte
}

var imageSizes = []int{2 * kib, 4 * kib, 16 * kib, 64 * kib, 128 * kib, 256 * kib} // the configuration first

func newImagePusher(bodies [][]byte, worker int) *imagePusher {
	p := &imagePusher{path: []byte("PUT /v2/" + workerRepository(worker) + "/manifests/t")}
	var parts []part
	for i, body := range bodies {
		content := newSeries(body, worker)
		p.blobs = append(p.blobs, newPusher(workerRepository(worker), content, false))
		mark := fmt.Sprintf("%-*d", digestLength, i) // to be overwritten by digests
		parts = append(parts, part{mediaType: layerType, digest: mark, size: content.size()})
	}
	parts[0].mediaType = configType
	p.manifest = image(parts[0], parts[1:], "")
	for _, part := range parts {
		p.digests = append(p.digests, bytes.Index(p.manifest, []byte(part.digest)))
	}
	p.rest = wire.Request{Method: "PUT", Header: "Content-Type: " + imageType + "\r\n", Length: len(p.manifest)}.AppendRest(nil)
	return p
}

// push pushes the next image, under the next tag.
func (p *imagePusher) push(c *wire.Client) error {
	for i, blob := range p.blobs {
		if err := blob.push(c); err != nil {
			return err
		}
		copy(p.manifest[p.digests[i]:], blob.digest)
	}
	p.tag++
	p.head = append(strconv.AppendInt(append(p.head[:0], p.path...), int64(p.tag), 10), p.rest...)
	return c.Do(201, p.head, p.manifest, nil)
}

// imagePush is the operation of pushing images, each client to a repository of its own.
func imagePush(s *server) (*load, error) {
	var bodies [][]byte
	for i, size := range imageSizes {
		bodies = append(bodies, noise(size-tailSize, byte(i)))
	}
	var pushers []*imagePusher
	verify := func(c *wire.Client, n int) error {
		p := pushers[n]
		for _, blob := range p.blobs {
			if err := checkPushed(c, workerRepository(n), blob.series); err != nil {
				return err
			}
		}
		return check(c, sample{
			path: fmt.Sprintf("/v2/%s/manifests/t%d", workerRepository(n), p.tag), header: acceptImage,
			size: int64(len(p.manifest)), digest: digestOf(p.manifest),
		})
	}
	return &load{
		worker: func(n int) (step, error) {
			p := newImagePusher(bodies, n)
			pushers = append(pushers, p)
			return p.push, nil
		},
		verify: func() error { return each(s, 1, len(pushers), verify) },
	}, nil
}
