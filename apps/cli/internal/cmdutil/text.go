package cmdutil

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// Text reads a file or stdin that must be UTF-8. It leaves out a byte order mark at the beginning; text of another
// encoding, and what is compressed, is named with the remedy before any of it is read.
func Text(r io.Reader) io.Reader { return &text{in: bufio.NewReader(r)} }

type text struct {
	in    *bufio.Reader
	begun bool
}

func (t *text) Read(p []byte) (int, error) {
	if !t.begun {
		if err := t.checkEncoding(); err != nil {
			return 0, err
		}
		t.begun = true
	}
	return t.in.Read(p)
}

// checkEncoding looks at the first bytes, which tell the encoding of anything that JSON can begin with.
func (t *text) checkEncoding() error {
	first, err := t.in.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}

	switch {
	case bytes.HasPrefix(first, []byte("\xef\xbb\xbf")):
		_, err = t.in.Discard(3)
		return err

	case bytes.HasPrefix(first, []byte("\x1f\x8b")):
		return Usage("it is compressed by gzip; unpack it first, as: gzip -dc FILE | pgqueue … -")
	case bytes.HasPrefix(first, []byte("\x28\xb5\x2f\xfd")):
		return Usage("it is compressed by zstd; unpack it first, as: zstd -dc FILE | pgqueue … -")
	case bytes.HasPrefix(first, []byte("\xff\xfe\x00\x00")), bytes.HasPrefix(first, []byte("\x00\x00")):
		return refuseEncoding("UTF-32")
	case bytes.HasPrefix(first, []byte("\xff\xfe")), bytes.HasPrefix(first, []byte("\xfe\xff")), bytes.IndexByte(first, 0) >= 0:
		return refuseEncoding("UTF-16")
	}

	return nil
}

func refuseEncoding(name string) error {
	return Usage("the text is %s; save it as UTF-8, as by: iconv -f %s -t UTF-8 FILE", name, name)
}
