package program

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/pflag"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestSecretFile: a replaced secret takes effect within 5 s, and a file that is missing meanwhile keeps the former one.
func TestSecretFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("\uFEFF first\r\n")
	synctest.Test(t, func(t *testing.T) {
		file, err := NewSecretFile("--auth-token-file", path)
		if err != nil {
			t.Fatal(err)
		}
		check := func(when, want string) {
			t.Helper()
			if got := file.Read(); got != want {
				t.Errorf("%s: got %q, want %q", when, got, want)
			}
		}
		check("at first", "first")

		write("second")
		check("before the interval", "first")
		time.Sleep(secretFileEvery)
		check("after it", "second")

		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(secretFileEvery)
		check("without the file", "second")
		write("")
		time.Sleep(secretFileEvery)
		check("with an empty file", "second")
		write("third")
		time.Sleep(secretFileEvery)
		check("with a new one", "third")
	})
}

func TestReadSecretRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"empty": " \n", "large": strings.Repeat("s3cret", maxSecretBytes)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"empty", "large", "missing", "."} {
		_, err := ReadSecret("--auth-token-file", filepath.Join(dir, name))
		if queue.KindOf(err) != queue.KindInvalid || !strings.Contains(err.Error(), "--auth-token-file: must be a file") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSecretVar: the variable sets a secret; a flag is refused, and no error or default shows the secret.
func TestSecretVar(t *testing.T) {
	var secret string
	fs := pflag.NewFlagSet("x", pflag.ContinueOnError)
	SecretVar(fs, &secret, "auth-token", "a `token`")
	err := fs.Parse([]string{"--auth-token", "s3cret"})
	if err == nil || !strings.Contains(err.Error(), "PGQUEUE_AUTH_TOKEN") || secret != "" {
		t.Errorf("a flag: %v, %q", err, secret)
	}
	if err := Environ(fs, func(name string) (string, bool) { return "s3cret", name == "PGQUEUE_AUTH_TOKEN" }); err != nil || secret != "s3cret" {
		t.Errorf("a variable: %v, %q", err, secret)
	}
	if text := fs.Lookup("auth-token").Value.String(); text != "" {
		t.Errorf("the value prints as %q", text)
	}
}
