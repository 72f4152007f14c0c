package main

import (
	"os"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func TestPage(t *testing.T) {
	t.Run("the committed page is what the domain says", func(t *testing.T) {
		got, err := os.ReadFile("../../../docs/lifecycle.md")
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != page() {
			t.Error("docs/lifecycle.md is not up to date: make generate")
		}
	})

	t.Run("every move is told by whom it is made", func(t *testing.T) {
		told := map[queue.Move]bool{}
		for _, m := range moves() {
			told[m] = about[m] != ""
		}
		for _, tr := range queue.Transitions() {
			if !told[tr.Move] {
				t.Errorf("%s is not told of", tr.Move)
			}
		}
	})

	t.Run("every status is in the picture", func(t *testing.T) {
		for _, s := range queue.Statuses() {
			if !strings.Contains(page(), "--> "+string(s)+":") {
				t.Errorf("no arrow leads to %s", s)
			}
		}
	})
}
