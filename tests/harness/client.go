package harness

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"berth/tests/content"
)

// A Client speaks the API as bare HTTP: it follows no redirect, asks for no compression and believes nothing. Safe for
// concurrent use.
type Client struct {
	Base           string // scheme, host and port
	User, Password string // the credentials of every request, unless User is empty

	http *http.Client
}

// NewClient returns a client of the registry at a base such as http://127.0.0.1:5000.
func NewClient(base string) *Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	return &Client{Base: base, http: &http.Client{
		Transport: transport, Timeout: 5 * time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// CloseIdle drops the connections that nobody uses, as when the server behind them is gone.
func (c *Client) CloseIdle() { c.http.CloseIdleConnections() }

// A Call is one request.
type Call struct {
	Method string
	Path   string // or a whole URL, as Location has it
	Query  url.Values
	Header http.Header
	Body   []byte
	Stream io.Reader // in place of Body: sent chunked, without a Content-Length
}

// A Reply is a response, read whole.
type Reply struct {
	Call   string // for messages
	Status int
	Header http.Header
	Body   []byte
	Length int64 // the Content-Length, -1 when there is none
}

// Do sends a request and reads all of its response.
func (c *Client) Do(call Call) (*Reply, error) {
	req, err := c.request(call)
	if err != nil {
		return nil, err
	}
	r, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: read the body: %w", call.Method, req.URL, err)
	}
	return &Reply{call.Method + " " + req.URL.RequestURI(), r.StatusCode, r.Header, body, r.ContentLength}, nil
}

func (c *Client) request(call Call) (*http.Request, error) {
	target, err := c.resolve(call.Path)
	if err != nil {
		return nil, err
	}
	if call.Query != nil {
		query := target.Query()
		for key, values := range call.Query {
			query[key] = values
		}
		target.RawQuery = query.Encode()
	}
	var body io.Reader = bytes.NewReader(call.Body)
	if call.Stream != nil {
		body = struct{ io.Reader }{call.Stream} // hides its length
	}
	req, err := http.NewRequest(call.Method, target.String(), body)
	if err != nil {
		return nil, err
	}
	if c.User != "" {
		req.SetBasicAuth(c.User, c.Password)
	}
	for key, values := range call.Header {
		req.Header[http.CanonicalHeaderKey(key)] = values
	}
	return req, nil
}

// resolve makes a URL of a path or of a Location, which may be relative.
func (c *Client) resolve(path string) (*url.URL, error) {
	base, err := url.Parse(c.Base)
	if err != nil {
		return nil, err
	}
	return base.Parse(path)
}

// Codes returns the error codes of a reply, nil when its body is not of the form the specification asks for.
func (r *Reply) Codes() []string {
	var doc struct {
		Errors []struct {
			Code    string          `json:"code"`
			Message string          `json:"message"`
			Detail  json.RawMessage `json:"detail"`
		} `json:"errors"`
	}
	decoder := json.NewDecoder(bytes.NewReader(r.Body))
	decoder.DisallowUnknownFields()
	if decoder.Decode(&doc) != nil {
		return nil
	}
	var codes []string
	for _, e := range doc.Errors {
		codes = append(codes, e.Code)
	}
	return codes
}

// Want returns an error unless the reply has one of the statuses.
func (r *Reply) Want(statuses ...int) error {
	for _, s := range statuses {
		if r.Status == s {
			return nil
		}
	}
	return fmt.Errorf("%s answered %d, not %v: %s", r.Call, r.Status, statuses, clip(r.Body))
}

func clip(b []byte) string { return strings.ToValidUTF8(string(b[:min(len(b), 300)]), "?") }

// Get reads a path.
func (c *Client) Get(path string) (*Reply, error) { return c.Do(Call{Method: "GET", Path: path}) }

// want is Do followed by [Reply.Want].
func (c *Client) want(call Call, statuses ...int) (*Reply, error) {
	r, err := c.Do(call)
	if err != nil {
		return nil, err
	}
	return r, r.Want(statuses...)
}

// PushBlob uploads a blob by POST and PUT.
func (c *Client) PushBlob(repo string, b content.Blob) error {
	r, err := c.want(Call{Method: "POST", Path: "/v2/" + repo + "/blobs/uploads/"}, 202)
	if err != nil {
		return err
	}
	_, err = c.want(Call{Method: "PUT", Path: r.Header.Get("Location"), Query: url.Values{"digest": {b.Digest}}, Body: b.Bytes,
		Header: http.Header{"Content-Type": {"application/octet-stream"}}}, 201)
	return err
}

// PushManifest puts a manifest under a reference; an empty one is its digest.
func (c *Client) PushManifest(repo, reference string, m content.Manifest) error {
	if reference == "" {
		reference = m.Digest
	}
	_, err := c.want(Call{Method: "PUT", Path: "/v2/" + repo + "/manifests/" + reference, Body: m.Bytes,
		Header: http.Header{"Content-Type": {m.MediaType}}}, 201)
	return err
}

// Push pushes all blobs of a set, then its manifests, children first; the last gets the tags.
func (c *Client) Push(repo string, set content.Set, tags ...string) error {
	for _, b := range set.Blobs {
		if err := c.PushBlob(repo, b); err != nil {
			return err
		}
	}
	for _, m := range set.Manifests {
		if err := c.PushManifest(repo, "", m); err != nil {
			return err
		}
	}
	for _, tag := range tags {
		if err := c.PushManifest(repo, tag, set.Top()); err != nil {
			return err
		}
	}
	return nil
}

// PullBlob reads a blob, from the store itself where the registry leads there, and compares its digest.
func (c *Client) PullBlob(repo, digest string) ([]byte, error) {
	return c.pull("/v2/"+repo+"/blobs/"+digest, digest)
}

// PullManifest reads a manifest by digest, and compares it.
func (c *Client) PullManifest(repo, digest string) ([]byte, error) {
	return c.pull("/v2/"+repo+"/manifests/"+digest, digest)
}

func (c *Client) pull(path, digest string) ([]byte, error) {
	r, err := c.want(Call{Method: "GET", Path: path}, 200, 307)
	if err == nil && r.Status == 307 {
		r, err = c.follow(r)
	}
	if err != nil {
		return nil, err
	}
	if got := content.DigestLike(digest, r.Body); got != digest {
		return nil, fmt.Errorf("%s: the body of %d bytes has the digest %s", r.Call, len(r.Body), got)
	}
	return r.Body, nil
}

// follow goes where a reply leads, without credentials.
func (c *Client) follow(r *Reply) (*Reply, error) {
	stranger := Client{Base: c.Base, http: c.http}
	return stranger.want(Call{Method: "GET", Path: r.Header.Get("Location")}, 200)
}

// Resolve returns the digest that a tag names.
func (c *Client) Resolve(repo, tag string) (string, error) {
	r, err := c.want(Call{Method: "HEAD", Path: "/v2/" + repo + "/manifests/" + tag}, 200)
	if err != nil {
		return "", err
	}
	return r.Header.Get("Docker-Content-Digest"), nil
}

// Verify pulls all of a set and compares every digest.
func (c *Client) Verify(repo string, set content.Set) error {
	for _, b := range set.Blobs {
		if _, err := c.PullBlob(repo, b.Digest); err != nil {
			return err
		}
	}
	for _, m := range set.Manifests {
		if _, err := c.PullManifest(repo, m.Digest); err != nil {
			return err
		}
	}
	return nil
}
