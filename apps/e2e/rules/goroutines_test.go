package rules_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// testedBy maps a package that starts goroutines to the package with its tests, where that is another one.
var testedBy = map[string]string{
	"adapters/postgres/postgrestest/cmd/testdb": "adapters/postgres/postgrestest",
	"apps/cli/internal/cmd/bench":               "apps/cli/internal/root",
	"apps/cli/internal/cmd/top":                 "apps/cli/internal/root",
	"apps/cli/internal/cmd/transfer":            "apps/cli/internal/root",
	"apps/e2e/bench":                            "apps/e2e/bench/internal/contender",
	"domain/manager/internal/feed":              "domain/manager",
	"domain/manager/internal/owner":             "domain/manager",
	"domain/manager/internal/ticks":             "domain/manager",
	"domain/manager/internal/waitlist":          "domain/manager",
	"transport/connect/connectserver":           "transport/connect/connectclient",
	"transport/rest/restserver":                 "transport/rest",
}

// leakChecks are what finds a goroutine that is left when all tests of a package are through, and what does in a test.
var leakChecks = []string{"goleak.VerifyTestMain", "goleak.Find", "queuetest.VerifyGoroutines", "VerifyGoroutines"}

// TestGoroutinesEnd holds every package that starts goroutines to tests that fail when one is left.
func TestGoroutinesEnd(t *testing.T) {
	const root = "../../.."
	starts, checks := map[string]string{}, map[string]bool{}
	err := filepath.WalkDir(root, func(file string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && file != root && (strings.HasPrefix(name, ".") || slices.Contains([]string{"node_modules", "testdata", "build", "tools"}, name)) {
			return filepath.SkipDir
		}
		if filepath.Ext(file) != ".go" {
			return nil
		}
		folder, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		folder = filepath.ToSlash(folder)
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		if strings.HasSuffix(file, "_test.go") {
			checks[folder] = checks[folder] || slices.ContainsFunc(calls(tree), func(c string) bool { return slices.Contains(leakChecks, c) })
		} else if startsGoroutine(tree) {
			starts[folder] = name
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(starts) < 10 {
		t.Fatalf("only %d packages that start goroutines were found", len(starts))
	}
	for folder, file := range starts {
		by := folder
		if other, ok := testedBy[folder]; ok {
			by = other
		}
		if !checks[by] {
			t.Errorf("%s starts goroutines (%s), and no test of %s finds one that is left", folder, file, by)
		}
	}
	for folder := range testedBy {
		if starts[folder] == "" {
			t.Errorf("%s starts no goroutine any more", folder)
		}
	}
}

func startsGoroutine(tree *ast.File) bool {
	found := false
	ast.Inspect(tree, func(n ast.Node) bool {
		if _, ok := n.(*ast.GoStmt); ok {
			found = true
		}
		return !found
	})
	return found || slices.ContainsFunc(calls(tree), func(c string) bool {
		return strings.HasSuffix(c, ".Go") || strings.HasSuffix(c, ".AfterFunc")
	})
}

// calls are the functions that a file calls, by the last two parts of their names.
func calls(tree *ast.File) (names []string) {
	ast.Inspect(tree, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		switch f := call.Fun.(type) {
		case *ast.Ident:
			names = append(names, f.Name)
		case *ast.SelectorExpr:
			of := "?"
			switch x := f.X.(type) {
			case *ast.Ident:
				of = x.Name
			case *ast.SelectorExpr:
				of = x.Sel.Name
			}
			names = append(names, of+"."+f.Sel.Name)
		}
		return true
	})
	return names
}
