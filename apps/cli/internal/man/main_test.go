package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queuetest"
)

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	if err := writePages([]string{dir}); err != nil {
		t.Fatal(err)
	}
	for page, says := range map[string]string{
		"pgqueue.1": "Exit codes", "pgqueue-retain-task.1": `\-\-worker`, "pgqueue-queue-pause.1": "pgqueue queue pause mail", "pgqueue-migrate-up.1": "dry-run",
	} {
		b, err := os.ReadFile(filepath.Join(dir, page))
		if err != nil {
			t.Fatal(err)
		}
		if text := strings.ReplaceAll(string(b), `\-`, "-"); !strings.Contains(text, strings.ReplaceAll(says, `\-`, "-")) {
			t.Errorf("%s does not say %q:\n%s", page, says, text)
		}
	}
	t.Run("man takes each page without a complaint", func(t *testing.T) {
		groff := queuetest.FindTools(t, "groff")[0]
		pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
		if err != nil || len(pages) < 60 {
			t.Fatalf("%d pages: %v", len(pages), err)
		}
		for _, page := range pages {
			out, err := exec.CommandContext(t.Context(), groff, "-man", "-Tutf8", "-wall", "-z", page).CombinedOutput()
			if err != nil || len(out) > 0 {
				t.Errorf("%s: %v\n%s", filepath.Base(page), err, out)
			}
		}
	})
	t.Run("one folder is needed", func(t *testing.T) {
		if err := writePages(nil); err == nil {
			t.Error("no error")
		}
	})
}
