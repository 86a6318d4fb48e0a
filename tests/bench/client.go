package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// A client is one kept connection that writes requests rendered beforehand and reads their responses, with as little work
// as that can be done: client and servers share the processors. Bodies are read and thrown away. Dropping them in the
// kernel (MSG_TRUNC) was no faster and is what no client does. Not safe for concurrent use.
type client struct {
	conn net.Conn

	out  []byte // small requests, gathered for one write
	in   []byte
	r, w int // what in holds and nobody has read

	response
}

// A response is the last one that a client read.
type response struct {
	status   int
	length   int64  // of the body
	location []byte // valid until the next response
	chunked  bool
}

const (
	bufferSize = 64 << 10
	gathered   = 32 << 10 // requests up to this size are one write
)

var errResponse = errors.New("not a response of HTTP/1.1")

// dial connects to a server and fails whatever is not done by the deadline.
func (s *server) dial(deadline time.Time) (*client, error) {
	conn, err := net.DialTimeout("tcp", s.addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	if s.tls != nil {
		conn = tls.Client(conn, s.tls)
	}
	return &client{conn: conn, in: make([]byte, bufferSize)}, conn.SetDeadline(deadline)
}

func (c *client) close() { c.conn.Close() }

// do sends a request, given as its head and up to two parts of a body, and reads the response, whose status must be want.
func (c *client) do(want int, head, body, tail []byte) error {
	if err := c.send(head, body, tail); err != nil {
		return err
	}
	return c.receive(want, head, nil)
}

// fetch is do for a request without a body, with the body of the response written to w.
func (c *client) fetch(want int, head []byte, w io.Writer) error {
	if err := c.send(head, nil, nil); err != nil {
		return err
	}
	return c.receive(want, head, w)
}

func (c *client) send(head, body, tail []byte) error {
	if len(head)+len(body)+len(tail) <= gathered {
		c.out = append(append(append(c.out[:0], head...), body...), tail...)
		_, err := c.conn.Write(c.out)
		return err
	}
	for _, part := range [][]byte{head, body, tail} {
		if len(part) == 0 {
			continue
		}
		if _, err := c.conn.Write(part); err != nil {
			return err
		}
	}
	return nil
}

func (c *client) receive(want int, head []byte, w io.Writer) error {
	if err := c.readHead(); err != nil {
		return fmt.Errorf("%s: %w", firstLine(head), err)
	}
	status := c.status
	if status != want && w == nil {
		var reason bytes.Buffer
		err := c.readBody(head, &reason)
		return errors.Join(fmt.Errorf("status %d, not %d: %s: %.300s", status, want, firstLine(head), &reason), err)
	}
	if err := c.readBody(head, w); err != nil {
		return fmt.Errorf("%s: body: %w", firstLine(head), err)
	}
	if status != want {
		return fmt.Errorf("status %d, not %d: %s", status, want, firstLine(head))
	}
	return nil
}

func firstLine(head []byte) []byte {
	line, _, _ := bytes.Cut(head, []byte("\r\n"))
	return line
}

// readHead reads the status and the headers that matter. The servers are all written in Go, which spells names one way.
func (c *client) readHead() error {
	line, err := c.readLine()
	if err != nil {
		return err
	}
	if len(line) < 12 || string(line[:9]) != "HTTP/1.1 " {
		return errResponse
	}
	c.response = response{
		status:   int(line[9]-'0')*100 + int(line[10]-'0')*10 + int(line[11]-'0'),
		location: c.location[:0],
	}
	for {
		if line, err = c.readLine(); err != nil || len(line) == 0 {
			return err
		}
		switch name, value, _ := bytes.Cut(line, []byte(": ")); string(name) {
		case "Content-Length":
			if c.length, err = parseNumber(value, 10); err != nil {
				return err
			}
		case "Transfer-Encoding":
			c.chunked = true
		case "Location":
			c.location = append(c.location, value...)
		}
	}
}

// parseNumber is strconv.ParseInt without an allocation.
func parseNumber(digits []byte, base int64) (int64, error) {
	var n int64
	for _, d := range digits {
		switch {
		case d >= '0' && d <= '9':
			n = n*base + int64(d-'0')
		case base == 16 && d >= 'a' && d <= 'f':
			n = n*base + int64(d-'a') + 10
		default:
			return 0, errResponse
		}
	}
	return n, nil
}

// readBody reads what follows the head of the response, writing it to w unless that is nil.
func (c *client) readBody(request []byte, w io.Writer) error {
	if request[0] == 'H' || c.status == 204 || c.status == 304 {
		return nil
	}
	if !c.chunked {
		return c.pass(c.length, w)
	}
	c.length = 0
	for {
		line, err := c.readLine()
		if err != nil {
			return err
		}
		size, err := parseNumber(line, 16)
		if err != nil {
			return err
		}
		if err := c.pass(size, w); err != nil {
			return err
		}
		if _, err := c.readLine(); err != nil || size == 0 {
			return err
		}
		c.length += size
	}
}

// pass moves n bytes from the connection to w, or nowhere if that is nil.
func (c *client) pass(n int64, w io.Writer) error {
	for n > 0 {
		if c.r == c.w {
			if err := c.fill(); err != nil {
				return err
			}
		}
		m := int(min(n, int64(c.w-c.r)))
		if w != nil {
			if _, err := w.Write(c.in[c.r : c.r+m]); err != nil {
				return err
			}
		}
		c.r += m
		n -= int64(m)
	}
	return nil
}

// readLine returns the next line without its end. It is valid until what was read is next filled from empty.
func (c *client) readLine() ([]byte, error) {
	for from := c.r; ; {
		if i := bytes.IndexByte(c.in[from:c.w], '\n'); i >= 0 {
			line := c.in[c.r : from+i]
			c.r = from + i + 1
			return bytes.TrimSuffix(line, []byte("\r")), nil
		}
		unread := c.w - c.r
		if err := c.fill(); err != nil {
			return nil, err
		}
		from = c.r + unread
	}
}

// fill reads more from the connection. What nobody has read moves to the front only when there is no room behind it.
func (c *client) fill() error {
	if c.r == c.w {
		c.r, c.w = 0, 0
	}
	if c.w == len(c.in) {
		if c.r == 0 {
			return errResponse
		}
		c.w = copy(c.in, c.in[c.r:c.w])
		c.r = 0
	}
	n, err := c.conn.Read(c.in[c.w:])
	c.w += n
	if n > 0 {
		return nil
	}
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// A request renders heads of requests.
type request struct {
	method, path string
	header       string // lines, each with its end
	length       int    // of the body
}

func (r request) head() []byte {
	return r.appendRest(append(append([]byte(r.method), ' '), r.path...))
}

// appendRest appends what follows the path.
func (r request) appendRest(b []byte) []byte {
	b = append(append(b, " HTTP/1.1\r\nHost: bench\r\n"...), r.header...)
	if r.method != "GET" && r.method != "HEAD" {
		b = strconv.AppendInt(append(b, "Content-Length: "...), int64(r.length), 10)
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...)
}
