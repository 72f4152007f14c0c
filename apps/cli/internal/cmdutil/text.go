package cmdutil

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// Text reads a file or stdin that must be UTF-8. It leaves out a byte order mark at the beginning. The first read refuses
// text of another encoding and compressed files, with the remedy.
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

// checkEncoding examines the first four bytes: they show the encoding of every text that begins as JSON does.
func (t *text) checkEncoding() error {
	first, err := t.in.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}

	switch {
	case bytes.HasPrefix(first, []byte("\xef\xbb\xbf")):
		_, err = t.in.Discard(3)
		return err

	// The first bytes of gzip are in RFC 1952, those of zstd in RFC 8878.
	case bytes.HasPrefix(first, []byte("\x1f\x8b")):
		return Usage("must be UTF-8, got gzip; unpack it first, as: gzip -dc FILE | pgqueue … -")
	case bytes.HasPrefix(first, []byte("\x28\xb5\x2f\xfd")):
		return Usage("must be UTF-8, got zstd; unpack it first, as: zstd -dc FILE | pgqueue … -")
	// UTF-32 goes first, because its mark begins with that of UTF-16.
	case bytes.HasPrefix(first, []byte("\xff\xfe\x00\x00")), bytes.HasPrefix(first, []byte("\x00\x00")):
		return refuseEncoding("UTF-32")
	case bytes.HasPrefix(first, []byte("\xff\xfe")), bytes.HasPrefix(first, []byte("\xfe\xff")), bytes.IndexByte(first, 0) >= 0:
		return refuseEncoding("UTF-16")
	}

	return nil
}

func refuseEncoding(name string) error {
	return Usage("must be UTF-8, got %s; save it as UTF-8, as by: iconv -f %s -t UTF-8 FILE", name, name)
}
