package keyfile_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/seal"
	"github.com/pgqueue/pgqueue/domain/seal/keyfile"
)

// key returns the encoded bytes of a key.
func key(c byte) string {
	return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{c}, seal.DataKeyBytes))
}

// write writes a key file and returns its path.
func write(t *testing.T, mode os.FileMode, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRing(t *testing.T) {
	path := write(t, 0o600, "# the keys", "", "k2 "+key(2), "k1   "+key(1)+" ")
	ring, err := keyfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}

	dataKey := bytes.Repeat([]byte{7}, seal.DataKeyBytes)
	kid, wrapped, err := ring.Wrap(t.Context(), dataKey)
	if err != nil || kid != "k2" || bytes.Contains(wrapped, dataKey) {
		t.Fatalf("got %s, %x, %v", kid, wrapped, err)
	}
	if got, err := ring.Unwrap(t.Context(), kid, wrapped); err != nil || !bytes.Equal(got, dataKey) {
		t.Errorf("got %x, %v", got, err)
	}
	if _, err := ring.Unwrap(t.Context(), "k1", wrapped); !errors.Is(err, seal.ErrWrongKey) {
		t.Errorf("the other key: %v", err)
	}
	if _, err := ring.Unwrap(t.Context(), "k3", wrapped); !errors.Is(err, seal.ErrUnknownKey) {
		t.Errorf("an unknown key: %v", err)
	}
	for i := range wrapped {
		changed := bytes.Clone(wrapped)
		changed[i] ^= 1
		if _, err := ring.Unwrap(t.Context(), kid, changed); !errors.Is(err, seal.ErrWrongKey) {
			t.Errorf("byte %d: %v", i, err)
		}
	}
	if _, err := ring.Unwrap(t.Context(), kid, nil); !errors.Is(err, seal.ErrWrongKey) {
		t.Errorf("nothing: %v", err)
	}

	// A rotation: a new key comes first, and the old ones still unwrap. A wrong file changes nothing.
	if err := os.WriteFile(path, []byte("k3 "+key(3)+"\nk2 "+key(2)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ring.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("k4"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ring.Reload(); queue.KindOf(err) != queue.KindInvalid {
		t.Errorf("a wrong file: %v", err)
	}
	if kid, _, _ := ring.Wrap(t.Context(), dataKey); kid != "k3" {
		t.Errorf("%s wraps", kid)
	}
	if got, err := ring.Unwrap(t.Context(), "k2", wrapped); err != nil || !bytes.Equal(got, dataKey) {
		t.Errorf("after the rotation: %x, %v", got, err)
	}
}

// TestWrongFiles: the error names the place at fault, and shows no key.
func TestWrongFiles(t *testing.T) {
	secret := key(9)
	for _, c := range []struct {
		lines []string
		want  string
	}{
		{[]string{"# nothing"}, "must have a key"},
		{[]string{"k1 " + secret, "k2"}, "line 2: must have a name"},
		{[]string{secret}, "line 1: must have a name"},
		{[]string{"k1 " + secret[:20]}, "line 1: must have a name"},
		{[]string{"k1 " + secret + secret}, "line 1: must have a name"},
		{[]string{`k"1 ` + secret}, "line 1: must have a name"},
		{[]string{strings.Repeat("k", 256) + " " + secret}, "line 1: must have a name"},
		{[]string{"k1 " + secret, "k1 " + key(1)}, "line 2: must have a name of its own"},
		{[]string{strings.Repeat("# ", 300_000)}, "must have at most"},
	} {
		_, err := keyfile.Open(write(t, 0o600, c.lines...))
		if queue.KindOf(err) != queue.KindInvalid || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), secret[:12]) {
			t.Errorf("%.40q: got %v", c.lines, err)
		}
	}

	if _, err := keyfile.Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := keyfile.Open(t.TempDir()); queue.KindOf(err) != queue.KindInvalid {
		t.Errorf("a folder: %v", err)
	}
	if runtime.GOOS == "windows" {
		return
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o660} {
		path := write(t, mode, "k1 "+secret)
		if err := os.Chmod(path, mode); err != nil { // the mask of the process
			t.Fatal(err)
		}
		if _, err := keyfile.Open(path); queue.KindOf(err) != queue.KindInvalid || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	if _, err := keyfile.Open(write(t, 0o400, "k1 "+secret)); err != nil {
		t.Errorf("mode 400: %v", err)
	}
}
