package rules_test

import (
	"errors"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestNamesOfEverySystem looks up the names of each package with the files that it has on each system. A build for another system
// takes minutes, so a name that one of them lacks would stay unseen until a release.
func TestNamesOfEverySystem(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..", "..")
	seen := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if name := d.Name(); path != root && (strings.HasPrefix(name, ".") || slices.Contains([]string{"testdata", "node_modules", "build", "tools"}, name)) {
			return filepath.SkipDir
		}
		here := missingNames(t, path, filesOf(t, path, runtime.GOOS))
		for _, system := range []string{"linux", "darwin", "freebsd", "windows"} {
			files := filesOf(t, path, system)
			seen += len(files)
			for _, fault := range missingNames(t, path, files) {
				if !slices.Contains(here, fault) {
					t.Errorf("on %s: %s", system, fault)
				}
			}
		}
		return nil
	})
	if err != nil || seen < 3000 {
		t.Fatalf("looked at %d files, want at least 3000 (%v)", seen, err)
	}

	if got := missingNames(t, "testdata", []string{"missing.go"}); len(got) != 1 {
		t.Errorf("a file with one missing name has %q", got)
	}
}

// filesOf returns the files of a folder that a build for a system uses, tests of the same package among them.
func filesOf(t *testing.T, folder, system string) []string {
	t.Helper()
	c := build.Default
	c.GOOS, c.CgoEnabled = system, false
	p, err := c.ImportDir(folder, 0)
	if _, none := errors.AsType[*build.NoGoError](err); err != nil && !none {
		t.Errorf("%s: %v", folder, err)
	}
	return slices.Concat(p.GoFiles, p.TestGoFiles)
}

// missingNames returns the names that files of one package use and none of them has. Imports are not followed, and nothing that
// rests on them is an error, but an import with another name than its path seems to miss on every system.
func missingNames(t *testing.T, folder string, files []string) (faults []string) {
	t.Helper()
	set := token.NewFileSet()
	var trees []*ast.File
	for _, name := range files {
		tree, err := parser.ParseFile(set, filepath.Join(folder, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		trees = append(trees, tree)
	}
	config := types.Config{Importer: noImports{}, Error: func(err error) {
		if strings.Contains(err.Error(), ": undefined: ") {
			faults = append(faults, err.Error())
		}
	}}
	_, _ = config.Check(folder, set, trees, nil) // each error has been seen
	return faults
}

// noImports finds no package.
type noImports struct{}

func (noImports) Import(string) (*types.Package, error) { return nil, errors.New("not followed") }
