package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"berth/registry/observe"
)

// A Stream is an answer in many parts, which Serve of a route returns. Each value is sent as a line of JSON, at once; send may be
// called by several goroutines. The context ends when the client leaves. An error after the first value is the last line.
type Stream func(ctx context.Context, send func(any) error) error

// maxLine bounds a line of a stream that a client takes, in bytes.
const maxLine = 1 << 20

func (a *API) stream(x *observe.Exchange, q *Request, s Stream) {
	var mu sync.Mutex
	control, lines := http.NewResponseController(x), json.NewEncoder(x)
	send := func(value any) error {
		mu.Lock()
		defer mu.Unlock()
		if x.Status() == 0 {
			x.Header().Set("Content-Type", "application/jsonl")
		}
		return errors.Join(lines.Encode(value), control.Flush())
	}
	err := s(q.Context(), send)
	switch {
	case err == nil && x.Status() == 0:
		write(x, http.StatusOK, nil)
	case err != nil && x.Status() == 0:
		a.writeError(x, q, err)
	case err != nil:
		p := a.told(q, err)
		_ = send(failure{&p}) // a client that left
	}
}

// Lines sends a request as [Client.Do] does, for an answer that is a [Stream]: got is given each line.
func (c *Client) Lines(ctx context.Context, method, path string, in any, got func(line []byte) error) error {
	answer, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode >= http.StatusBadRequest {
		return readAnswer(answer, nil)
	}
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var f failure
		if err := json.Unmarshal(lines.Bytes(), &f); err == nil && f.Error != nil && f.Error.Message != "" {
			return f.Error
		}
		if err := got(lines.Bytes()); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read the answer of the server: %w", err)
	}
	return nil
}
