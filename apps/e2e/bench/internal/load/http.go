package load

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// patience is the timeout of a request.
const patience = 30 * time.Second

// conn is a client with one persistent connection, without pool, header maps or goroutines. So a run on two cores
// measures the server and not the client. It understands only the HTTP/1.1 answers that this server gives.
type conn struct {
	net.Conn
	host string
	// authorization is a header line with the line end in front; "" = none.
	authorization string

	r    *bufio.Reader
	out  []byte
	body []byte
}

func dial(ctx context.Context, addr string) (*conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, host: addr, r: bufio.NewReaderSize(c, 16<<10)}, nil
}

// do sends a request and returns the status and the body. The body is valid until the next call.
func (c *conn) do(method, path string, body []byte) (int, []byte, error) {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, nil, err
	}
	if err := c.send(method, path, "application/json", body); err != nil {
		return 0, nil, err
	}

	status, length, err := c.head()
	if err != nil {
		return 0, nil, err
	}

	c.body = c.body[:0]
	switch {
	case length >= 0:
		err = c.read(length)
	default:
		for length = 1; length > 0 && err == nil; {
			if length, err = c.chunk(); err == nil {
				err = c.read(length)
			}
			if err == nil {
				_, err = c.r.ReadSlice('\n') // end of the chunk or of the trailers, which this server does not send
			}
		}
	}
	return status, c.body, err
}

// send writes the request.
func (c *conn) send(method, path, accept string, body []byte) error {
	c.out = append(c.out[:0], method...)
	c.out = append(append(append(c.out, ' '), path...), " HTTP/1.1\r\nHost: "...)
	c.out = append(append(c.out, c.host...), "\r\nAccept: "...)
	c.out = append(c.out, accept...)
	if method != "GET" {
		c.out = append(c.out, "\r\nContent-Type: application/json\r\nContent-Length: "...)
		c.out = strconv.AppendInt(c.out, int64(len(body)), 10)
	}
	c.out = append(append(append(c.out, c.authorization...), "\r\n\r\n"...), body...)
	_, err := c.Write(c.out)
	return err
}

// head reads the status line and the headers. The length is -1 for a body in chunks.
func (c *conn) head() (status, length int, err error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, 0, err
	}

	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return 0, 0, fmt.Errorf("answer: must begin as one of HTTP/1.1, got %.64q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, 0, err
	}

	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return 0, 0, err
		}
		if len(line) <= 2 {
			return status, length, nil
		}

		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, 0, err
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			length = -1
		}
	}
}

// chunk reads the length of the next chunk.
func (c *conn) chunk() (int, error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 16, 32)
	return int(n), err
}

// read appends n bytes to the body.
func (c *conn) read(n int) error {
	from := len(c.body)
	c.body = append(c.body, make([]byte, n)...)
	_, err := io.ReadFull(c.r, c.body[from:])
	return err
}

// number returns the whole number behind the first key of that name in JSON, or 0 without one.
func number(text []byte, key string) int64 {
	at := bytes.Index(text, []byte(`"`+key+`":`))
	if at < 0 {
		return 0
	}
	text = text[at+len(key)+3:]
	end := 0
	for end < len(text) && text[end] >= '0' && text[end] <= '9' {
		end++
	}
	n, _ := strconv.ParseInt(string(text[:end]), 10, 64)
	return n
}
