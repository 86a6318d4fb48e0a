package process

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"berth/configuration"
	"berth/storage/filesystem"
	"berth/storage/open"
	"berth/storage/probe"
	"berth/storage/remote"
)

// The steps of [Probe] beside those of package probe.
const (
	ProbeOpen   = "open"
	ProbeFolder = "folder" // whether a folder can become, or is, a storage; appears only when it cannot
	ProbeClose  = "close"  // appears only when it fails
)

// Probe tries the storage of a configuration, whether a server has it or not, and leaves nothing behind. warn is told of what is
// amiss with it.
func Probe(ctx context.Context, s configuration.Storage, warn func(string)) []probe.Step {
	tidy, err := aside(&s)
	var steps []probe.Step
	if err == nil {
		steps = trySteps(ctx, s, warn)
		err = tidy()
	}
	if err != nil {
		steps = append(steps, probe.Step{Name: ProbeFolder, Needed: true, Err: err})
	}
	return steps
}

func trySteps(ctx context.Context, s configuration.Storage, warn func(string)) []probe.Step {
	s.Cache.Size = 0                            // which would answer in place of the storage
	s.Maintenance.UploadPurging.Enabled = false // which is for a server to begin
	start := time.Now()
	store, err := open.Open(ctx, s, open.Options{Warn: warn})
	first := probe.Step{Name: ProbeOpen, Needed: true, Err: err, Took: time.Since(start)}
	if err != nil {
		return []probe.Step{first}
	}
	o := probe.Options{Large: partSize(s) + 1, Fetch: fetcher(s), Redirects: !s.Redirect.Disable}
	steps := append([]probe.Step{first}, probe.Run(ctx, store.Driver, o)...)
	if err := store.Close(); err != nil {
		steps = append(steps, probe.Step{Name: ProbeClose, Needed: true, Err: err})
	}
	return steps
}

// partSize is the size in bytes from which on objects go up in parts.
func partSize(s configuration.Storage) int64 {
	switch {
	case s.S3 != nil:
		return int64(s.S3.ChunkSize)
	case s.GCS != nil:
		return int64(s.GCS.ChunkSize)
	case s.Azure != nil:
		return int64(s.Azure.ChunkSize)
	}
	return 1 << 20
}

// aside puts a storage of folders into one of its own within the configured one, so that neither a server that has that nor
// what is there matters. tidy removes it, and the folders that were made for it.
func aside(s *configuration.Storage) (tidy func() error, err error) {
	var root string
	name := "lock-probe-" + strings.ToLower(rand.Text()) // begins like the lock, which is no obstacle to a server that starts
	switch {
	case s.Filesystem != nil:
		root, err = s.Filesystem.RootDirectory, filesystem.Check(s.Filesystem.RootDirectory)
		files := *s.Filesystem
		files.RootDirectory, s.Filesystem = filepath.Join(root, name), &files
	case s.EmptyDir != nil:
		root, err = s.EmptyDir.RootDirectory, filesystem.CheckEmptyDir(s.EmptyDir.RootDirectory)
		dir := *s.EmptyDir
		dir.RootDirectory, s.EmptyDir = filepath.Join(root, name), &dir
	default:
		return func() error { return nil }, nil
	}
	missing := missingFolders(root)
	return func() error {
		err := os.RemoveAll(filepath.Join(root, name))
		for _, folder := range missing {
			_ = os.Remove(folder) // unless somebody else put something there
		}
		return err
	}, err
}

// missingFolders returns the folders that have to be made for one to be there, the innermost first.
func missingFolders(path string) (missing []string) {
	for {
		if _, err := os.Lstat(path); err == nil || path == filepath.Dir(path) {
			return missing
		}
		missing = append(missing, path)
		path = filepath.Dir(path)
	}
}

// fetcher GETs signed URLs as clients do, who trust the authorities that the storage is configured with.
func fetcher(s configuration.Storage) func(context.Context, string) ([]byte, error) {
	n := remote.Network{Section: "storage." + s.Driver()}
	switch {
	case s.S3 != nil:
		n.SkipVerify, n.CA = s.S3.SkipVerify, s.S3.RootCA
	case s.GCS != nil:
		n.SkipVerify, n.CA = s.GCS.SkipVerify, s.GCS.RootCA
	case s.Azure != nil:
		n.SkipVerify, n.CA = s.Azure.SkipVerify, s.Azure.RootCA
	}
	return func(ctx context.Context, url string) ([]byte, error) {
		client, err := n.Client()
		if err != nil {
			return nil, err
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return nil, errors.New("the URL is none") // it is a secret
		}
		response, err := client.Do(r)
		if err != nil {
			return nil, fmt.Errorf("fetching from %s: %w", r.URL.Host, errors.Unwrap(err)) // without the URL
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("fetching from %s: %s", r.URL.Host, response.Status)
		}
		return io.ReadAll(io.LimitReader(response.Body, 1<<20))
	}
}
