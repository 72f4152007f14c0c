package e2e_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// block is a block of code in the README.
type block struct{ language, code string }

var fence = regexp.MustCompile("(?s)\n```(\\w*)\n(.*?\n)```\n")

func readme(t *testing.T) []block {
	t.Helper()
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var out []block
	for _, m := range fence.FindAllStringSubmatch(string(b), -1) {
		out = append(out, block{m[1], m[2]})
	}
	return out
}

// of returns the blocks in one language and fails without any.
func of(t *testing.T, blocks []block, language string) []string {
	t.Helper()
	var out []string
	for _, b := range blocks {
		if b.language == language {
			out = append(out, b.code)
		}
	}
	if len(out) == 0 {
		t.Fatalf("the README has no block in %q", language)
	}
	return out
}

// TestReadmeGo compares the README's Go code with the code that this package compiles and runs.
func TestReadmeGo(t *testing.T) {
	source, err := os.ReadFile("readme_go_test.go")
	if err != nil {
		t.Fatal(err)
	}
	flat := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	for _, code := range of(t, readme(t), "go") {
		if !strings.Contains(flat(string(source)), flat(code)) {
			t.Errorf("readme_go_test.go does not have this code of the README:\n%s", code)
		}
	}
}

// TestReadmeTargets compares the README with the Makefile: a newcomer types these commands first.
func TestReadmeTargets(t *testing.T) {
	first := of(t, readme(t), "")[0]
	for _, target := range []string{"run", "test"} {
		if !strings.Contains(first, "make "+target) {
			t.Errorf("the README does not say make %s", target)
		}
	}
	out, err := exec.CommandContext(t.Context(), "make", "-C", "../..", "--no-print-directory", "-n", "run").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "go build") || !strings.HasSuffix(strings.TrimSpace(string(out)), "build/pgqueue run") {
		t.Errorf("make run does something else than the tests here: %v\n%s", err, out)
	}
}

// TestReadmeCommands runs every shell command of the README in its order with the current programs.
func TestReadmeCommands(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	home := t.TempDir()
	if err := os.Symlink(programs(t), filepath.Join(home, "build")); err != nil {
		t.Fatal(err)
	}
	n := startNode(t, dataDir(t))
	address := strings.TrimSuffix(strings.TrimPrefix(n.url, "http://"), "/api")
	for i, code := range of(t, readme(t), "sh") {
		name, _, _ := strings.Cut(code, "\n")
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			// The server of the test has another port than the README's default. A refused request fails the test too.
			script := strings.ReplaceAll(code, "localhost:8080", address)
			script = "curl() { command curl --fail-with-body \"$@\"; echo; }\n" + script
			cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
			cmd.Dir = home
			cmd.Env = append(os.Environ(), "PGQUEUE_URL="+n.url, "HOME="+home)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("block %d: %v\n%s\n%s", i+1, err, code, out)
			}
			if len(bytes.TrimSpace(out)) == 0 {
				t.Errorf("block %d says nothing:\n%s", i+1, code)
			}
		})
	}
	t.Run("the worker works what the commands have left", func(t *testing.T) {
		workMail(t, "http://"+address)
	})
}
