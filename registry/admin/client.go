package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"syscall"
	"time"
)

// maxAnswer bounds an answer that a client takes, in bytes.
const maxAnswer = 64 << 20

// A Client asks a server through its socket. It is safe for concurrent use.
type Client struct {
	path string
	http http.Client
}

// NewClient makes a client of the server at the socket of a path. It opens nothing yet.
func NewClient(path string) *Client {
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	return &Client{path: path, http: http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		},
	}}}
}

// A NobodyError says that no server answers at a socket, and what to do.
type NobodyError struct {
	Path string
	Err  error
}

func (e *NobodyError) Error() string {
	switch {
	case errors.Is(e.Err, fs.ErrNotExist):
		return fmt.Sprintf("no server answers: there is no socket %s", e.Path)
	case errors.Is(e.Err, syscall.ECONNREFUSED):
		return fmt.Sprintf("no server answers: the one that made the socket %s is gone", e.Path)
	case errors.Is(e.Err, fs.ErrPermission):
		return fmt.Sprintf("the socket %s can be opened by the user that the server runs as and by root: run this command as one of them", e.Path)
	}
	return fmt.Sprintf("no server answers at the socket %s: %v", e.Path, e.Err)
}

// Unwrap returns Err.
func (e *NobodyError) Unwrap() error { return e.Err }

// Do sends a request with in as its body, none when it is nil, and fills out, unless it is nil, from the answer. Errors are
// a [*NobodyError], a [*Problem] of the server, or those of an answer that makes no sense.
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	answer, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	return readAnswer(answer, out)
}

func (c *Client) send(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://berth"+path, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", "berth")
	answer, err := c.http.Do(r)
	if opErr := (*net.OpError)(nil); errors.As(err, &opErr) && opErr.Op == "dial" && ctx.Err() == nil {
		return nil, &NobodyError{c.path, opErr.Err}
	}
	if err != nil {
		return nil, fmt.Errorf("ask the server: %w", err)
	}
	return answer, nil
}

func readAnswer(answer *http.Response, out any) error {
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err = errors.Join(err, answer.Body.Close()); err != nil {
		return fmt.Errorf("read the answer of the server: %w", err)
	}
	return decodeAnswer(answer.StatusCode, data, out)
}

func decodeAnswer(status int, data []byte, out any) error {
	if len(data) > maxAnswer {
		return fmt.Errorf("the answer of the server has more than %d bytes", maxAnswer)
	}
	if status >= http.StatusBadRequest {
		var f failure
		if err := json.Unmarshal(data, &f); err != nil || f.Error == nil || f.Error.Message == "" {
			return fmt.Errorf("the server answered with status %d and no explanation", status)
		}
		f.Error.Status = status
		return f.Error
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("read the answer of the server: %w", err)
	}
	return nil
}
