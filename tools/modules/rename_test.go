package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestRename renames a copy of the tree. The copy must contain the old path nowhere, build, and start a program. The
// start reads the descriptors of protobuf, which hold the path with its length.
func TestRename(t *testing.T) {
	if os.Getenv("PGQUEUE_TEST_FULL") == "" {
		t.Skip("builds everything anew, some minutes: make test-full runs it")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	run := func(folder, name string, args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir, cmd.Env = folder, append(os.Environ(), "GOWORK=", "GOFLAGS=", "MAKEFLAGS=")
		output, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, output)
		}
		return output
	}
	copied := t.TempDir()
	run(root, "make", ".bin/buf")
	files := strings.Split(strings.TrimSuffix(string(run(root, "git", "ls-files", "-coz", "--exclude-standard")), "\x00"), "\x00")
	for _, name := range append(files, ".bin/buf") {
		copyFile(t, filepath.Join(root, name), filepath.Join(copied, name))
	}

	const path = "example.org/another-team/queue"
	if output, err := exec.CommandContext(t.Context(), "make", "-C", copied, "rename", "MODULE=queue").CombinedOutput(); err == nil ||
		!bytes.Contains(output, []byte("MODULE: must be a module path")) {
		t.Errorf("a path without a host: %v\n%s", err, output)
	}
	run(copied, "make", "rename", "MODULE="+path)
	old := strings.TrimSuffix(prefix, "/")
	if output, _ := exec.CommandContext(t.Context(), "grep", "-rIlF", "--exclude-dir=.bin", old, copied).Output(); len(output) > 0 { // grep without a match returns an error
		t.Errorf("the old path is left in\n%s", output)
	}
	run(copied, "go", "build", "work")
	if output := run(copied, "go", "run", "./apps/server/cmd/pgqueue-server", "--version"); !bytes.Contains(output, []byte("pgqueue-server dev")) {
		t.Errorf("the program says %s", output)
	}
	if output := run(copied, "go", "list", "-m"); bytes.Count(output, []byte(path+"/")) != bytes.Count(output, []byte("\n")) {
		t.Errorf("the modules are\n%s", output)
	}
}

// copyFile copies a file with its mode. It skips a file that was deleted without a commit.
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	info, err := os.Stat(from)
	if os.IsNotExist(err) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, content, info.Mode()); err != nil {
		t.Fatal(err)
	}
}
