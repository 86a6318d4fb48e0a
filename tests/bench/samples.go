package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"berth/tests/bench/wire"
)

// seed fills the store of a server with something that is known by a name, once.
func seed[T any](s *server, name string, fill func() (T, error)) (T, error) {
	if known, ok := s.seeded[name]; ok {
		return known.(T), nil
	}
	made, err := fill()
	if err != nil {
		return made, fmt.Errorf("fill %s with %s: %w", s.name, name, err)
	}
	s.seeded[name] = made
	return made, nil
}

const (
	readRepository = "bench/read"
	kinds          = 64 // how many small things are read in turn
)

// seedBlobs pushes count blobs of one size.
func seedBlobs(s *server, size, count int) ([]sample, error) {
	return seed(s, fmt.Sprintf("%d blobs of %d bytes", count, size), func() ([]sample, error) {
		all := make([]sample, count)
		return all, each(s, min(count, 4), count, func(c *wire.Client, i int) error {
			p, err := pushBlob(c, readRepository, noise(size, byte(i)), layerType)
			all[i] = sample{path: "/v2/" + readRepository + "/blobs/" + p.digest, size: int64(size), digest: p.digest}
			return err
		})
	})
}

func blobs(size, count int) func(*server) ([]sample, error) {
	return func(s *server) ([]sample, error) { return seedBlobs(s, size, count) }
}

// ranges returns samples of 1 MiB in a blob of 256 MiB.
func ranges(s *server) ([]sample, error) {
	whole, err := seedBlobs(s, 256*mib, 1)
	if err != nil {
		return nil, err
	}
	content := noise(256*mib, 0)
	all := make([]sample, 16)
	for i := range all {
		from := i*16*mib - i*111 + 4321
		all[i] = sample{
			path: whole[0].path, header: fmt.Sprintf("Range: bytes=%d-%d\r\n", from, from+mib-1),
			status: http.StatusPartialContent, size: mib, digest: digestOf(content[from : from+mib]),
		}
	}
	return all, nil
}

// seedManifests pushes images of common layers, each under a tag, and returns their parts, of which the i-th has tag ti.
func seedManifests(s *server, repository string, count, clients int) ([]part, error) {
	return seed(s, fmt.Sprintf("%d images in %s", count, repository), func() ([]part, error) {
		parts, err := seedLayers(s, repository)
		if err != nil {
			return nil, err
		}
		all := make([]part, count)
		return all, each(s, clients, count, func(c *wire.Client, i int) error {
			var err error
			all[i], err = pushManifest(c, repository, fmt.Sprintf("t%d", i), image(parts[0], parts[1:], fmt.Sprint(i)))
			return err
		})
	})
}

// seedLayers pushes a configuration and five layers to a repository.
func seedLayers(s *server, repository string) (parts []part, err error) {
	return parts, alone(s, func(c *wire.Client) error {
		for i := range 6 {
			mediaType := layerType
			if i == 0 {
				mediaType = configType
			}
			p, err := pushBlob(c, repository, noise(100+i, byte(i)), mediaType)
			if err != nil {
				return err
			}
			parts = append(parts, p)
		}
		return nil
	})
}

func manifests(byTag bool) func(*server) ([]sample, error) {
	return func(s *server) ([]sample, error) {
		parts, err := seedManifests(s, readRepository, kinds, 4)
		if err != nil {
			return nil, err
		}
		all := make([]sample, len(parts))
		for i, p := range parts {
			reference := p.digest
			if byTag {
				reference = fmt.Sprintf("t%d", i)
			}
			all[i] = sample{
				path: "/v2/" + readRepository + "/manifests/" + reference, header: acceptImage,
				size: int64(p.size), digest: p.digest,
			}
		}
		return all, nil
	}
}

const (
	manyTags         = 5000
	manyRepositories = 2000
	manyReferrers    = 500
	tagRepository    = "bench/tags"
)

// listed fetches a list once, counts its elements and returns it as a sample of the same length.
func listed(s *server, path, member string, want int) ([]sample, error) {
	var body bytes.Buffer
	err := each(s, 1, 1, func(c *wire.Client, _ int) error {
		return c.Fetch(http.StatusOK, wire.Request{Method: "GET", Path: path}.Head(), &body)
	})
	if err != nil {
		return nil, err
	}
	var lists map[string]json.RawMessage
	var list []json.RawMessage
	if err := json.Unmarshal(body.Bytes(), &lists); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := json.Unmarshal(lists[member], &list); err != nil || len(list) != want {
		return nil, errors.Join(fmt.Errorf("%s: %d %s, not %d", path, len(list), member, want), err)
	}
	return []sample{{path: path, size: int64(body.Len()), digest: digestOf(body.Bytes())}}, nil
}

func tagList(query string, want int) func(*server) ([]sample, error) {
	return func(s *server) ([]sample, error) {
		if _, err := seedManifests(s, tagRepository, manyTags, 8); err != nil {
			return nil, err
		}
		n := want
		if s.name == peer {
			n = manyTags // version 2 has no pages of tags: it answers all of them
		}
		return listed(s, "/v2/"+tagRepository+"/tags/list"+query, "tags", n)
	}
}

func catalog(s *server) ([]sample, error) {
	_, err := seed(s, "repositories", func() (struct{}, error) {
		return struct{}{}, each(s, 8, manyRepositories, func(c *wire.Client, i int) error {
			repository := fmt.Sprintf("many/r%d", i)
			config, err := pushBlob(c, repository, []byte("{}"), configType)
			if err != nil {
				return err
			}
			_, err = pushManifest(c, repository, "latest", image(config, nil, ""))
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return listed(s, "/v2/_catalog?n=100&last=many/r1", "repositories", 100)
}

// referrers returns samples of a list of referrers and, for the floor, of a manifest of the same length: the floor must
// come after Berth.
func referrers() func(*server) ([]sample, error) {
	size := 0
	return func(s *server) ([]sample, error) {
		const repository = "bench/referrers"
		if s.name == floor {
			if size == 0 {
				return nil, errors.New("what the floor serves for referrers is as long as what berth does, which must be a target too")
			}
			body := noise(size, 0)
			all := []sample{{path: "/v2/" + repository + "/manifests/list", size: int64(size), digest: digestOf(body)}}
			return all, alone(s, func(c *wire.Client) error { _, err := pushManifest(c, repository, "list", body); return err })
		}
		subject, err := seedReferrers(s, repository)
		if err != nil {
			return nil, err
		}
		list, err := listed(s, "/v2/"+repository+"/referrers/"+subject, "manifests", manyReferrers)
		if err == nil {
			size = int(list[0].size)
		}
		return list, err
	}
}

func seedReferrers(s *server, repository string) (subject string, err error) {
	return seed(s, "referrers", func() (subject string, err error) {
		var empty, target part
		err = alone(s, func(c *wire.Client) (err error) {
			if empty, err = pushBlob(c, repository, []byte("{}"), "application/vnd.oci.empty.v1+json"); err != nil {
				return err
			}
			target, err = pushManifest(c, repository, "subject", image(empty, []part{empty}, ""))
			return err
		})
		if err != nil {
			return "", err
		}
		return target.digest, each(s, 4, manyReferrers, func(c *wire.Client, i int) error {
			manifest := attachment(empty, target, fmt.Sprint(i))
			_, err := pushManifest(c, repository, digestOf(manifest), manifest)
			return err
		})
	})
}
