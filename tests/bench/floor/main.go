// Floor is the least server that answers the requests of the benchmark: manifests and tags in a map, blobs from files by
// sendfile, and for each push one temporary file that is hashed while written, one fsync and one rename. It has no
// feature, checks nothing but digests, and forgets its manifests when it ends. It shows what net/http and the disk cost.
//
//	floor ADDRESS FOLDER [CERTIFICATE KEY]
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

func main() {
	if len(os.Args) != 3 && len(os.Args) != 5 {
		log.Fatal("usage: floor ADDRESS FOLDER [CERTIFICATE KEY]")
	}
	f := &floor{root: os.Args[2], manifests: map[string]manifest{}}
	if len(os.Args) == 5 {
		log.Fatal(http.ListenAndServeTLS(os.Args[1], os.Args[3], os.Args[4], f))
	}
	log.Fatal(http.ListenAndServe(os.Args[1], f))
}

type floor struct {
	root  string
	names atomic.Uint64 // of temporary files and uploads

	mu        sync.RWMutex
	manifests map[string]manifest // by repository and "@" digest or ":" tag
}

type manifest struct {
	mediaType, digest string
	body              []byte
}

var errDigest = errors.New("the digest is not that of the body")

func (f *floor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	err := errors.ErrUnsupported
	if name, ref, ok := strings.Cut(r.URL.Path, "/manifests/"); ok {
		err = f.manifest(w, r, name, ref)
	} else if name, rest, ok := strings.Cut(r.URL.Path, "/blobs/"); ok {
		err = f.blob(w, r, name, rest)
	} else if r.URL.Path == "/v2/" {
		_, err = io.WriteString(w, "{}")
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

func key(name, ref string) string {
	if strings.HasPrefix(ref, "sha256:") {
		return name + "@" + ref
	}
	return name + ":" + ref
}

func (f *floor) manifest(w http.ResponseWriter, r *http.Request, name, ref string) error {
	if r.Method == http.MethodPut {
		return f.putManifest(w, r, name, ref)
	}
	f.mu.RLock()
	m, ok := f.manifests[key(name, ref)]
	f.mu.RUnlock()
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return nil
	}
	h := w.Header()
	h.Set("Content-Type", m.mediaType)
	h.Set("Docker-Content-Digest", m.digest)
	h.Set("Content-Length", strconv.Itoa(len(m.body)))
	if r.Method == http.MethodGet {
		w.Write(m.body)
	}
	return nil
}

func (f *floor) putManifest(w http.ResponseWriter, r *http.Request, name, ref string) error {
	var body bytes.Buffer
	digest, err := f.store(io.TeeReader(r.Body, &body), "")
	if err != nil {
		return err
	}
	m := manifest{mediaType: r.Header.Get("Content-Type"), digest: digest, body: body.Bytes()}
	f.mu.Lock()
	f.manifests[key(name, ref)] = m
	f.manifests[key(name, digest)] = m
	f.mu.Unlock()
	created(w, digest)
	return nil
}

func (f *floor) blob(w http.ResponseWriter, r *http.Request, name, rest string) error {
	digest := r.URL.Query().Get("digest")
	switch {
	case r.Method == http.MethodPost && digest == "":
		w.Header().Set("Location", name+"/blobs/uploads/"+strconv.FormatUint(f.names.Add(1), 10))
		w.WriteHeader(http.StatusAccepted)
	case r.Method == http.MethodPost, r.Method == http.MethodPut:
		if _, err := f.store(r.Body, digest); err != nil {
			return err
		}
		created(w, digest)
	default:
		f.serve(w, r, rest)
	}
	return nil
}

func created(w http.ResponseWriter, digest string) {
	w.Header().Set("Docker-Content-Digest", digest)
	w.WriteHeader(http.StatusCreated)
}

// serve answers GET and HEAD of a blob.
func (f *floor) serve(w http.ResponseWriter, r *http.Request, digest string) {
	file, err := os.Open(f.path(digest))
	if err != nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	defer file.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Docker-Content-Digest", digest)
	http.ServeContent(w, r, "", time.Time{}, file)
}

func (f *floor) path(digest string) string {
	return filepath.Join(f.root, filepath.Base(digest))
}

// store makes a body durable under its digest, which must be the one wanted if that is not "".
func (f *floor) store(body io.Reader, want string) (string, error) {
	file, err := os.Create(filepath.Join(f.root, fmt.Sprintf("%d.tmp", f.names.Add(1))))
	if err != nil {
		return "", err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(io.MultiWriter(file, hash), body); err != nil {
		return "", err
	}
	digest := "sha256:" + hex.EncodeToString(hash.Sum(nil))
	if want != "" && digest != want {
		return "", errDigest
	}
	if err := file.Sync(); err != nil {
		return "", err
	}
	return digest, os.Rename(file.Name(), f.path(digest))
}
