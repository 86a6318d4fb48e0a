// Package wire is a client of HTTP/1.1 that costs as little as a client can: it writes requests rendered beforehand, and looks at no
// more of a response than a benchmark has to.
package wire

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

// A Client is one kept connection that writes requests rendered beforehand and reads their responses, with as little work
// as that can be done: client and servers share the processors. Bodies are read and thrown away. Dropping them in the
// kernel (MSG_TRUNC) was no faster and is what no client does. Not safe for concurrent use.
type Client struct {
	conn net.Conn

	out  []byte // small requests, gathered for one write
	in   []byte
	r, w int // what in holds and nobody has read

	Response
}

// A Response is the last one that a client read.
type Response struct {
	Length   int64  // of the body
	Location []byte // valid until the next response
	status   int
	chunked  bool
}

const (
	bufferSize = 64 << 10
	gathered   = 32 << 10 // requests up to this size are one write
)

var errResponse = errors.New("not a response of HTTP/1.1")

// Dial connects to a server, by TLS unless secure is nil, and fails whatever is not done by the deadline.
func Dial(addr string, secure *tls.Config, deadline time.Time) (*Client, error) {
	conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	if secure != nil {
		conn = tls.Client(conn, secure)
	}
	return &Client{conn: conn, in: make([]byte, bufferSize)}, conn.SetDeadline(deadline)
}

// Close closes the connection.
func (c *Client) Close() { c.conn.Close() }

// Write writes a piece of a request, for those that are not sent at once; [Client.Receive] follows the last one.
func (c *Client) Write(piece []byte) (int, error) { return c.conn.Write(piece) }

// Do sends a request, given as its head and up to two parts of a body, and reads the response, whose status must be want.
func (c *Client) Do(want int, head, body, tail []byte) error {
	if err := c.send(head, body, tail); err != nil {
		return err
	}
	return c.Receive(want, head, nil)
}

// Fetch is [Client.Do] for a request without a body, with the body of the response written to w.
func (c *Client) Fetch(want int, head []byte, w io.Writer) error {
	if err := c.send(head, nil, nil); err != nil {
		return err
	}
	return c.Receive(want, head, w)
}

func (c *Client) send(head, body, tail []byte) error {
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

// Receive reads the response to a request, given as its head. Its status must be want. The body is written to w unless that is nil.
func (c *Client) Receive(want int, head []byte, w io.Writer) error {
	if err := c.readHead(); err != nil {
		return fmt.Errorf("%s: %w", FirstLine(head), err)
	}
	status := c.status
	if status != want && w == nil {
		var reason bytes.Buffer
		err := c.readBody(head, &reason)
		return errors.Join(fmt.Errorf("status %d, not %d: %s: %.300s", status, want, FirstLine(head), &reason), err)
	}
	if err := c.readBody(head, w); err != nil {
		return fmt.Errorf("%s: body: %w", FirstLine(head), err)
	}
	if status != want {
		return fmt.Errorf("status %d, not %d: %s", status, want, FirstLine(head))
	}
	return nil
}

// FirstLine returns the first line of a head, for errors.
func FirstLine(head []byte) []byte {
	line, _, _ := bytes.Cut(head, []byte("\r\n"))
	return line
}

// readHead reads the status and the headers that matter. The servers are all written in Go, which spells names one way.
func (c *Client) readHead() error {
	line, err := c.readLine()
	if err != nil {
		return err
	}
	if len(line) < 12 || string(line[:9]) != "HTTP/1.1 " {
		return errResponse
	}
	c.Response = Response{
		status:   int(line[9]-'0')*100 + int(line[10]-'0')*10 + int(line[11]-'0'),
		Location: c.Location[:0],
	}
	for {
		if line, err = c.readLine(); err != nil || len(line) == 0 {
			return err
		}
		switch name, value, _ := bytes.Cut(line, []byte(": ")); string(name) {
		case "Content-Length":
			if c.Length, err = parseNumber(value, 10); err != nil {
				return err
			}
		case "Transfer-Encoding":
			c.chunked = true
		case "Location":
			c.Location = append(c.Location, value...)
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
func (c *Client) readBody(request []byte, w io.Writer) error {
	if request[0] == 'H' || c.status == 204 || c.status == 304 {
		return nil
	}
	if !c.chunked {
		return c.pass(c.Length, w)
	}
	c.Length = 0
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
		c.Length += size
	}
}

// pass moves n bytes from the connection to w, or nowhere if that is nil.
func (c *Client) pass(n int64, w io.Writer) error {
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
func (c *Client) readLine() ([]byte, error) {
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
func (c *Client) fill() error {
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

// A Request renders heads of requests.
type Request struct {
	Method, Path string
	Header       string // lines, each with its end
	Length       int    // of the body
}

// Head renders the whole head.
func (r Request) Head() []byte {
	return r.AppendRest(append(append([]byte(r.Method), ' '), r.Path...))
}

// AppendRest appends what follows the path.
func (r Request) AppendRest(b []byte) []byte {
	b = append(append(b, " HTTP/1.1\r\nHost: bench\r\n"...), r.Header...)
	if r.Method != "GET" && r.Method != "HEAD" {
		b = strconv.AppendInt(append(b, "Content-Length: "...), int64(r.Length), 10)
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...)
}
