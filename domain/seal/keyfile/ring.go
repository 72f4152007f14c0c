package keyfile

import (
	"bufio"
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync/atomic"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/seal"
)

// maxFileBytes bounds a file of keys: more than a thousand of them.
const maxFileBytes = 512 << 10

// Ring has the keys of a file. It is safe for concurrent use.
type Ring struct {
	path string
	keys atomic.Pointer[keySet]
}

var _ seal.KeyWrapper = (*Ring)(nil)

// keySet is the content of a file.
type keySet struct {
	first string
	byID  map[string]cipher.AEAD
}

// Open reads the file at path. The error names the line at fault, and shows no part of a key.
func Open(path string) (*Ring, error) {
	r := &Ring{path: path}
	if err := r.Reload(); err != nil {
		return nil, err
	}
	return r, nil
}

// Reload reads the file again. After an error the keys stay as they were.
func (r *Ring) Reload() error {
	content, err := readPrivate(r.path)
	if err != nil {
		return err
	}
	defer clear(content)

	set, err := parseKeys(content)
	if err != nil {
		return fmt.Errorf("%.256q: %w", r.path, err)
	}
	r.keys.Store(set)
	return nil
}

// readPrivate reads a file that only its owner may read.
func readPrivate(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()

	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	// A named pipe would hold the start of the program until something writes to it.
	if !info.Mode().IsRegular() {
		return nil, queue.Invalid("key file", fmt.Sprintf("must be a regular file, got %.256q with mode %v; name a file", path, info.Mode()))
	}
	// The open file is asked, not the path, which may lead to another file by now. Windows has no such bits.
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, queue.Invalid("key file", fmt.Sprintf("must have mode 0600, got %#o for %.64q; run chmod 600", mode, path))
	}

	// One byte more than the bound shows that the file is too long.
	content, err := io.ReadAll(io.LimitReader(file, maxFileBytes+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxFileBytes {
		clear(content)
		return nil, queue.Invalid("key file", fmt.Sprintf("must have at most %d bytes, got more", maxFileBytes))
	}
	return content, nil
}

// parseKeys reads the lines of a file.
func parseKeys(content []byte) (*keySet, error) {
	set := &keySet{byID: map[string]cipher.AEAD{}}
	lines := bufio.NewScanner(bytes.NewReader(content))
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}

		field := fmt.Sprintf("line %d", number)
		name, encoded, ok := strings.Cut(line, " ")
		raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
		// The error quotes nothing of the line: it may hold a key. An envelope has names without quotes and
		// backslashes.
		if !ok || err != nil || len(raw) != seal.DataKeyBytes || len(name) > seal.MaxKeyIDBytes || strings.ContainsAny(name, `"\`) {
			clear(raw)
			return nil, queue.Invalid(field, "must have a name, a space and 32 bytes in base64, as in \"2026-11 hJ1n…=\", got another form; make it with head -c 32 /dev/urandom | base64")
		}
		if set.byID[name] != nil {
			return nil, queue.Invalid(field, fmt.Sprintf("must have a name of its own, got %.64q again; name each key once", name))
		}

		aead, err := newCipher(raw)
		if err != nil {
			return nil, err
		}
		set.byID[name] = aead
		if set.first == "" {
			set.first = name
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if set.first == "" {
		return nil, queue.Invalid("key file", "must have a key, got none; add a line with a name and 32 bytes in base64")
	}
	return set, nil
}

// newCipher makes the cipher of a key and erases its bytes.
func newCipher(raw []byte) (cipher.AEAD, error) {
	defer clear(raw)
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// purpose is authenticated with each wrapped key, beside the name of the key that wraps it.
const purpose = "pgqueue wrap 1 "

// Wrap implements seal.KeyWrapper with the first key.
func (r *Ring) Wrap(_ context.Context, dataKey []byte) (kid string, wrapped []byte, err error) {
	set := r.keys.Load()
	aead := set.byID[set.first]
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(dataKey)+aead.Overhead())
	_, _ = rand.Read(nonce) // it never fails
	// The nonce stands before the sealed key, and the name of the key is bound to it.
	return set.first, aead.Seal(nonce, nonce, dataKey, []byte(purpose+set.first)), nil
}

// Unwrap implements seal.KeyWrapper.
func (r *Ring) Unwrap(_ context.Context, kid string, wrapped []byte) ([]byte, error) {
	aead := r.keys.Load().byID[kid]
	if aead == nil {
		return nil, seal.ErrUnknownKey
	}
	if len(wrapped) < aead.NonceSize() {
		return nil, seal.ErrWrongKey
	}
	nonce := wrapped[:aead.NonceSize()]
	dataKey, err := aead.Open(nil, nonce, wrapped[len(nonce):], []byte(purpose+kid))
	if err != nil {
		return nil, seal.ErrWrongKey
	}
	return dataKey, nil
}
