package e2e_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"github.com/yuin/goldmark"
	mdast "github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"

	"github.com/pgqueue/pgqueue/adapters/memory"
	serverrun "github.com/pgqueue/pgqueue/apps/server/run"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

// updateDocs writes the Go code of the pages anew: go test ./apps/e2e -run TestDocs -update-docs
var updateDocs = flag.Bool("update-docs", false, "write the examples into the documentation")

// root is the path of the repository.
const root = "../.."

// doc is a page with its anchors, its links and its code.
type doc struct {
	name    string // path from root
	source  []byte
	anchors map[string]bool
	links   []string
	code    []*fenced
}

// fenced is a block of code with the comment above it.
type fenced struct {
	language, code, comment string
	from, to                int // offsets of its lines in the source
}

// docs returns all pages of the repository.
func docs(t *testing.T) map[string]*doc {
	t.Helper()
	all := map[string]*doc{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || d.Name() == "testdata" || d.Name() == "build" || file != root && strings.HasPrefix(d.Name(), ".")) {
			return fs.SkipDir
		}
		if d.IsDir() || filepath.Ext(file) != ".md" {
			return nil
		}
		source, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		all[filepath.ToSlash(name)] = read(filepath.ToSlash(name), source)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("only %d pages were found", len(all))
	}
	return all
}

func read(name string, source []byte) *doc {
	d := &doc{name: name, source: source, anchors: map[string]bool{}}
	tree := goldmark.New(goldmark.WithExtensions(extension.GFM)).Parser().Parse(text.NewReader(source))
	comment := ""
	_ = mdast.Walk(tree, func(n mdast.Node, entering bool) (mdast.WalkStatus, error) {
		if !entering {
			return mdast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *mdast.Heading:
			d.anchors[anchor(plain(n, source))] = true
		case *mdast.Link:
			d.links = append(d.links, string(n.Destination))
		case *mdast.Image:
			d.links = append(d.links, string(n.Destination))
		case *mdast.HTMLBlock:
			comment = string(n.Lines().Value(source))
		case *mdast.FencedCodeBlock:
			f := &fenced{language: string(n.Language(source)), code: string(n.Lines().Value(source)), comment: strings.TrimSpace(comment)}
			if n.Info != nil {
				f.from = n.Info.Segment.Stop + 1
				f.to = f.from + len(f.code)
			}
			d.code = append(d.code, f)
		}
		if n.Type() == mdast.TypeBlock && n.Kind() != mdast.KindHTMLBlock {
			comment = ""
		}
		return mdast.WalkContinue, nil
	})
	return d
}

// plain returns the text of a heading.
func plain(n mdast.Node, source []byte) string {
	var b strings.Builder
	_ = mdast.Walk(n, func(n mdast.Node, entering bool) (mdast.WalkStatus, error) {
		if t, ok := n.(*mdast.Text); ok && entering {
			b.Write(t.Segment.Value(source))
		}
		return mdast.WalkContinue, nil
	})
	return b.String()
}

// anchor returns the anchor that GitHub gives to a heading.
func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			return unicode.ToLower(r)
		}
		return -1
	}, heading)
}

// TestDocs checks the links, the names and the code of the pages against the tree.
func TestDocs(t *testing.T) {
	all := docs(t)
	t.Run("the target of each link is there", func(t *testing.T) {
		for _, d := range all {
			for _, link := range d.links {
				if fault := broken(all, d, link); fault != "" {
					t.Errorf("%s: %s: %s", d.name, link, fault)
				}
			}
		}
	})
	t.Run("every page of docs can be reached from its README", func(t *testing.T) {
		reached := map[string]bool{}
		var reach func(name string)
		reach = func(name string) {
			d := all[name]
			if d == nil || reached[name] {
				return
			}
			reached[name] = true
			for _, link := range d.links {
				file, _, _ := strings.Cut(link, "#")
				reach(path.Join(path.Dir(name), file))
			}
		}
		reach("docs/README.md")
		for name := range all {
			if strings.HasPrefix(name, "docs/") && !reached[name] {
				t.Errorf("nothing leads to %s", name)
			}
		}
	})
	t.Run("Go code is that of an example that compiles", func(t *testing.T) {
		for _, d := range all {
			if strings.HasPrefix(d.name, "docs/how-to/") {
				goCode(t, d)
			}
		}
	})
	t.Run("TypeScript is that of the client that a test runs", func(t *testing.T) {
		source, err := os.ReadFile("testdata/node-client/client.ts")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range all["docs/how-to/connect.md"].code {
			if f.language != "ts" {
				continue
			}
			for line := range strings.Lines(f.code) {
				// An import may add names to the page.
				if _, module, ok := strings.Cut(line, " from "); ok && strings.HasPrefix(line, "import") {
					line = " from " + module
				}
				if !bytes.Contains(source, []byte(strings.TrimSpace(line))) {
					t.Errorf("the client does not have %s", line)
				}
			}
		}
	})
}

// broken returns the fault of a link, or "" for a good one.
func broken(all map[string]*doc, from *doc, link string) string {
	u, err := url.Parse(link)
	if err != nil {
		return err.Error()
	}
	if u.Scheme != "" {
		return "" // another site; a test must not call it
	}
	name := from.name
	if u.Path != "" {
		name = path.Join(path.Dir(from.name), u.Path)
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			return "is not there"
		}
	}
	if u.Fragment != "" && (all[name] == nil || !all[name].anchors[u.Fragment]) {
		return "no such heading"
	}
	return ""
}

var exampleOf = regexp.MustCompile(`^<!-- example: (\S+) (\w+) -->$`)

// goCode compares Go blocks with their examples, or writes them.
func goCode(t *testing.T, d *doc) {
	t.Helper()
	var out bytes.Buffer
	done := 0
	for _, f := range d.code {
		if f.language != "go" {
			continue
		}
		m := exampleOf.FindStringSubmatch(f.comment)
		if m == nil {
			t.Errorf("%s: no comment above this code names the example:\n%s", d.name, f.code)
			continue
		}
		want := body(t, filepath.Join(root, m[1]), m[2])
		if f.code != want && !*updateDocs {
			t.Errorf("%s: not %s of %s: go test ./apps/e2e -run TestDocs -update-docs", d.name, m[2], m[1])
		}
		out.Write(d.source[done:f.from])
		out.WriteString(want)
		done = f.to
	}
	if *updateDocs && done > 0 {
		out.Write(d.source[done:])
		if err := os.WriteFile(filepath.Join(root, d.name), out.Bytes(), 0o644); err != nil { //nolint:gosec // all may read the page
			t.Error(err)
		}
	}
}

// body returns the statements of an example without the checks of its output.
func body(t *testing.T, file, name string) string {
	t.Helper()
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	parsed, err := parser.ParseFile(set, file, source, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	for _, decl := range parsed.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || f.Recv != nil || f.Name.Name != name {
			continue
		}
		body := string(source[set.Position(f.Body.Lbrace).Offset+2 : set.Position(f.Body.Rbrace).Offset])
		body, _, _ = strings.Cut(body, "\t// Output:")
		var b strings.Builder
		for line := range strings.Lines(body) {
			if strings.HasPrefix(line, "\t_ = ") { // mentions a function that the example only shows
				continue
			}
			b.WriteString(strings.TrimPrefix(line, "\t"))
		}
		return b.String()
	}
	t.Fatalf("%s has no %s", file, name)
	return ""
}

// TestDocsCommands runs the commands of the how-tos page by page, with a new server for each page.
func TestDocsCommands(t *testing.T) {
	if testing.Short() {
		t.Skip("builds programs")
	}
	for page, needs := range map[string][]string{
		"docs/how-to/rest.md": {"curl", "jq", "bash"}, "docs/how-to/cli.md": {"jq", "bash"}, "docs/how-to/tickers.md": {"bash"},
		"docs/how-to/connect.md": {"python3"}, "docs/how-to/worker.md": {"bash"},
	} {
		t.Run(path.Base(page), func(t *testing.T) {
			queuetest.FindTools(t, needs...)
			base := serveMemory(t)
			var shell, python strings.Builder
			for _, f := range docs(t)[page].code {
				code := strings.ReplaceAll(f.code, "http://localhost:8080", base)
				code = strings.ReplaceAll(code, "localhost:8080", base)
				switch f.language {
				case "sh":
					shell.WriteString(code)
				case "python":
					python.WriteString(code)
				}
			}
			dir := t.TempDir()
			env := append(os.Environ(), "PGQUEUE_URL="+base+"/api")
			if shell.Len() > 0 {
				env = append(env, "PATH="+programs(t)+string(os.PathListSeparator)+os.Getenv("PATH"))
				runDoc(t, dir, env, "bash", "-euxo", "pipefail", "-c", shell.String())
			}
			if python.Len() > 0 {
				runDoc(t, dir, env, "python3", "-c", python.String())
			}
			if shell.Len()+python.Len() == 0 {
				t.Error("the page has no commands")
			}
		})
	}
}

func runDoc(t *testing.T, dir string, env []string, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, env
	// Background processes of the commands end with their process group.
	cmd.SysProcAttr, cmd.WaitDelay = &syscall.SysProcAttr{Setpgid: true}, 10*time.Second
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	defer func() {
		if cmd.Process != nil {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
	}()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// serveMemory serves an empty store and returns its URL.
func serveMemory(t *testing.T) string { return serveStore(t, memory.New()) }

// serveStore serves a store and returns its URL.
func serveStore(t *testing.T, store queue.Store) string {
	t.Helper()
	s, err := serverrun.Start(t.Context(), serverrun.Config{
		Addr: "127.0.0.1:0",
		Store: func(context.Context) (queue.Store, func(context.Context) error, error) {
			return store, func(context.Context) error { return nil }, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(fmt.Errorf("stop: %w", err))
		}
	})
	return s.URL()
}
