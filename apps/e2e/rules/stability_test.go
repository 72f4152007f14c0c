package rules_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// promisedSurfaces are what users hold on to beside Go packages and the folders of deploy, by a word of their row.
var promisedSurfaces = []string{
	"REST:", "Server-sent events", "`pgqueue.v1`", "SQL: functions and views", "Command line:", "Settings:", "Rights:", "`pgqueue apply`", "worker's file", "export",
	"Dashboard:", "Metrics", "Spans", "Schema", "NOTIFY", "cursors", "signature", "archives", "Helm chart", "deb, rpm and apk", "npm", "Container images",
}

// TestStability holds docs/stability.md to the tree: each package that others can import, each folder of deploy and each surface
// has a row, and each package of a row exists.
func TestStability(t *testing.T) {
	const tree = "../../.."
	text, err := os.ReadFile(filepath.Join(tree, "docs", "stability.md"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for line := range strings.Lines(string(text)) {
		if cell, _, ok := strings.Cut(strings.TrimPrefix(line, "| "), " | "); ok && strings.HasPrefix(line, "| ") {
			rows = append(rows, cell)
		}
	}
	surfaces := strings.Join(rows, "\n")

	packages := listPublicPackages(t, tree)
	if len(packages) < 20 {
		t.Fatalf("found the packages %v, too few", packages)
	}
	for _, p := range packages {
		if !strings.Contains(surfaces, "`"+p+"`") {
			t.Errorf("docs/stability.md has no row for the package %s: say what is promised of it", p)
		}
	}
	for _, match := range regexp.MustCompile("`((?:domain|adapters|transport)/[a-z0-9/]+)`").FindAllStringSubmatch(surfaces, -1) {
		if !slices.Contains(packages, match[1]) {
			t.Errorf("docs/stability.md has a row for %s, which others cannot import", match[1])
		}
	}

	deploys, err := os.ReadDir(filepath.Join(tree, "deploy"))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range deploys {
		if d.IsDir() && !strings.Contains(surfaces, "`deploy/"+d.Name()+"`") {
			t.Errorf("docs/stability.md has no row for deploy/%s", d.Name())
		}
	}
	for _, surface := range promisedSurfaces {
		if !strings.Contains(surfaces, surface) {
			t.Errorf("docs/stability.md has no row for %q", surface)
		}
	}
}

// listPublicPackages returns the folders with packages that others can import, from domain, adapters and transport.
func listPublicPackages(t *testing.T, tree string) []string {
	t.Helper()
	var packages []string
	for _, part := range []string{"domain", "adapters", "transport"} {
		err := filepath.WalkDir(filepath.Join(tree, part), func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && (d.Name() == "internal" || d.Name() == "testdata" || d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".")):
				return filepath.SkipDir
			case d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go"):
				return nil
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.PackageClauseOnly)
			if err != nil {
				return err
			}
			folder, err := filepath.Rel(tree, filepath.Dir(path))
			if folder = filepath.ToSlash(folder); err == nil && file.Name.Name != "main" && !slices.Contains(packages, folder) {
				packages = append(packages, folder)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return packages
}
