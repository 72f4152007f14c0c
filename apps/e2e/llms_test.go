package e2e_test

import (
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

//go:generate go test -run ^TestLLMsFile$ -update .

var update = flag.Bool("update", false, "write the generated files")

// TestLLMsFile holds llms.txt, the index for language models, to the pages that the index of the documentation links.
func TestLLMsFile(t *testing.T) {
	pages := docs(t)
	var b strings.Builder
	b.WriteString("# pgqueue\n\n> " + firstParagraph(t, pages["README.md"]) + "\n")
	section := func(title string) { fmt.Fprintf(&b, "\n## %s\n\n", title) }
	entry := func(page string) {
		d := pages[page]
		if d == nil {
			t.Fatalf("there is no page %s", page)
		}
		title := regexp.MustCompile(`(?m)^# (.+)$`).FindSubmatch(d.source)
		if title == nil {
			t.Fatalf("%s has no title", page)
		}
		fmt.Fprintf(&b, "- [%s](%s): %s\n", title[1], page, firstSentence(firstParagraph(t, d)))
	}

	section("Start")
	for _, page := range []string{"README.md", "docs/README.md", "AGENTS.md", "CONTRIBUTING.md", "CHANGELOG.md"} {
		entry(page)
	}
	seen := map[string]bool{}
	section("Pages")
	for _, link := range pages["docs/README.md"].links {
		file, _, _ := strings.Cut(link, "#")
		page := path.Join("docs", file)
		if !seen[page] && path.Ext(page) == ".md" && pages[page] != nil {
			seen[page] = true
			entry(page)
		}
	}
	for page := range pages {
		if strings.HasPrefix(page, "docs/how-to/") && !seen[page] {
			t.Errorf("docs/README.md has no link to %s", page)
		}
	}
	section("Interfaces")
	b.WriteString("- [OpenAPI of REST](transport/rest/openapi.yaml): every route, field, limit and error.\n" +
		"- [Protobuf of Connect and gRPC](transport/connect/proto/pgqueue/v1/work.proto): the worker's service; the others are beside it.\n" +
		"- [Help of all commands](apps/cli/internal/root/testdata/golden/help.txt): commands, flags and examples.\n")

	file := filepath.Join(root, "llms.txt")
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != b.String() {
		t.Errorf("llms.txt is not up to date (%v); write it by: make generate", err)
	}
}

// firstParagraph returns the first text below the title of a page, in one line and without links.
func firstParagraph(t *testing.T, d *doc) string {
	t.Helper()
	for part := range strings.SplitSeq(string(d.source), "\n\n") {
		if part = strings.TrimSpace(part); part == "" || strings.HasPrefix(part, "```") || strings.ContainsAny(part[:1], "#<|!-[") {
			continue
		}
		text := strings.Join(strings.Fields(part), " ")
		return regexp.MustCompile(`\[([^\]]+)\]\([^)]+\)`).ReplaceAllString(text, "$1")
	}
	t.Fatalf("%s has no text", d.name)
	return ""
}

// firstSentence returns the text up to the first end of a sentence.
func firstSentence(text string) string {
	if i := regexp.MustCompile(`[.:] [A-Z]`).FindStringIndex(text); i != nil {
		return text[:i[0]] + "."
	}
	return text
}
