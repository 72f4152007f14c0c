package main

import (
	"os"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func TestPage(t *testing.T) {
	t.Run("the committed page follows the domain", func(t *testing.T) {
		got, err := os.ReadFile("../../../docs/lifecycle.md")
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != renderPage() {
			t.Error("docs/lifecycle.md: differs from queue.Transitions; run make generate")
		}
	})

	t.Run("every move has a cause", func(t *testing.T) {
		hasCause := map[queue.Move]bool{}
		for _, row := range moveCauses {
			hasCause[row.move] = row.cause != ""
		}
		for _, transition := range queue.Transitions() {
			if !hasCause[transition.Move] {
				t.Errorf("moveCauses: has no row for %s", transition.Move)
			}
		}
	})

	t.Run("every status is in the picture", func(t *testing.T) {
		for _, status := range queue.Statuses() {
			if !strings.Contains(renderPage(), "--> "+string(status)+":") {
				t.Errorf("the picture has no arrow to %s", status)
			}
		}
	})
}
