package rules_test

import (
	"bufio"
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// wordRules lists the words that the style in CONTRIBUTING.md and docs/glossary.md rule out.
var wordRules = []struct {
	pattern *regexp.Regexp
	instead string
}{
	{
		regexp.MustCompile(`(?i)\b(who|whom|whoever|whose|nobody|somebody|anybody)\b`),
		"name the thing: the caller, the worker, no connection",
	},
	{
		regexp.MustCompile(`(?i)(^|[.;:,] )(what|whatever) (is|was|are|were|has|have|had|does|did|can|cannot|it|they|a|the|one)\b[^?]*([.;]|$)`),
		"name the thing: \"the deleted tasks\", not \"what was deleted\"",
	},
	{
		regexp.MustCompile(`(?i)\b(is|are|was) no [a-z]+`),
		"must be X, got Y; or: is not X",
	},
	{
		regexp.MustCompile(`(?i)\b(tells?|told|telling)\b`),
		"returns, reports, records, says",
	},
}

// allowedWords are cut out of a text before the rules see it: code in pages, and a use of "is no" that is plain.
var allowedWords = regexp.MustCompile("(?i)`[^`]*`|\\bthere (is|are|was|were) no\\b|\\b(is|are|was) no longer\\b")

// quotedPages hold sentences of other people or of tools, which stay as they are.
var quotedPages = []string{"LICENSE", "gen", "testdata", "node_modules", "build", "bin", ".bin", ".git"}

// text is a comment, a message or a line of a page.
type text struct {
	place string
	words string
}

// TestWords holds comments, messages and pages to the style.
func TestWords(t *testing.T) {
	root := filepath.Join("..", "..", "..")

	failures := map[string][]string{}
	for path, texts := range readTexts(t, root) {
		for _, item := range texts {
			words := allowedWords.ReplaceAllString(item.words, "")
			for _, rule := range wordRules {
				found := rule.pattern.FindString(words)
				if found != "" {
					failures[path] = append(failures[path], fmt.Sprintf("%s: %q: %s", item.place, found, rule.instead))
				}
			}
		}
	}

	for _, path := range slices.Sorted(maps.Keys(failures)) {
		for _, failure := range failures[path] {
			t.Error(failure)
		}
	}
}

// readTexts reads the comments, messages and pages of the tree, keyed by slash path relative to root.
func readTexts(t *testing.T, root string) map[string][]text {
	t.Helper()

	texts := map[string][]text{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if slices.Contains(quotedPages, entry.Name()) {
				return filepath.SkipDir
			}
			return nil
		}

		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		relative = filepath.ToSlash(relative)

		switch name := entry.Name(); {
		case name == "words_test.go":
			return nil
		case filepath.Ext(name) == ".go":
			texts[relative], err = readGoTexts(path, relative)
		case filepath.Ext(name) == ".md":
			texts[relative], err = readLines(path, relative, "")
		case filepath.Ext(name) == ".sql":
			texts[relative], err = readLines(path, relative, "--")
		case filepath.Ext(name) == ".proto":
			texts[relative], err = readLines(path, relative, "//")
		case name == "Makefile", slices.Contains([]string{".yaml", ".yml", ".sh", ".service"}, filepath.Ext(name)):
			texts[relative], err = readLines(path, relative, "#")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

// readGoTexts returns the comments of a Go file and its string literals of two words and more. Generated files have none.
func readGoTexts(path, relative string) ([]text, error) {
	source, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}

	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	if ast.IsGenerated(file) {
		return nil, nil
	}

	var texts []text
	for _, group := range file.Comments {
		line := files.Position(group.Pos()).Line
		texts = append(texts, text{fmt.Sprintf("%s:%d", relative, line), strings.Join(strings.Fields(group.Text()), " ")})
	}

	var scan scanner.Scanner
	scan.Init(files.AddFile(path, -1, len(source)), source, nil, 0)
	for {
		pos, kind, literal := scan.Scan()
		if kind == token.EOF {
			return texts, nil
		}
		if kind != token.STRING || !strings.Contains(literal, " ") {
			continue
		}

		words, err := strconv.Unquote(literal)
		if err != nil {
			return nil, err
		}
		place := fmt.Sprintf("%s:%d", relative, files.Position(pos).Line)
		texts = append(texts, text{place, strings.Join(strings.Fields(words), " ")})
	}
}

// readLines returns the lines of a page, or only the comments that begin with mark.
func readLines(path, relative, mark string) ([]text, error) {
	source, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}

	var texts []text
	lines := bufio.NewScanner(bytes.NewReader(source))
	lines.Buffer(nil, 1<<20)
	for number := 1; lines.Scan(); number++ {
		_, words, found := strings.Cut(lines.Text(), mark)
		if found {
			texts = append(texts, text{fmt.Sprintf("%s:%d", relative, number), strings.TrimSpace(words)})
		}
	}
	return texts, lines.Err()
}
