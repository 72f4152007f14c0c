package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"
)

// prefix begins the path of every module; the folder follows.
const prefix = "github.com/pgqueue/pgqueue/"

// outside lists the folders of modules outside the workspace. Requirements of the tools must not select the versions
// of the product.
var outside = []string{"tools", "tools/chart"}

// workspace holds the tree as it is on disk.
type workspace struct {
	root    string
	version string // version of every sibling: the next release, from the file VERSION
	work    *modfile.WorkFile
	modules []*module // sorted by folder, with those outside the workspace
}

// module is a folder with a go.mod.
type module struct {
	dir  string // relative to the root, with slashes
	file *modfile.File
	text []byte // bytes of the file; write skips an unchanged one

	// imports are the siblings that any file of the module imports, with its tests and all build tags.
	imports []string
}

// isOutside reports whether the module stays out of the workspace.
func (m *module) isOutside() bool { return slices.Contains(outside, m.dir) }

// loadWorkspace reads go.work, VERSION and every go.mod below root.
func loadWorkspace(root string) (*workspace, error) {
	ws := &workspace{root: root}

	text, err := os.ReadFile(filepath.Join(root, "go.work"))
	if err != nil {
		return nil, err
	}
	if ws.work, err = modfile.ParseWork("go.work", text, nil); err != nil {
		return nil, err
	}
	if ws.work.Go == nil {
		return nil, errors.New("go.work: no go line")
	}

	text, err = os.ReadFile(filepath.Join(root, "VERSION"))
	if err != nil {
		return nil, err
	}
	ws.version = strings.TrimSpace(string(text))
	if semver.Canonical(ws.version) != ws.version {
		return nil, fmt.Errorf("VERSION: must be a full semantic version such as v1.2.3, got %.64q", ws.version)
	}

	dirs, err := findModuleDirs(root)
	if err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		m := &module{dir: dir}
		if err := m.readModFile(root); err != nil {
			return nil, err
		}
		ws.modules = append(ws.modules, m)
	}

	// An import names its module only when all modules are known.
	for _, m := range ws.modules {
		if err := ws.readImports(m); err != nil {
			return nil, err
		}
	}
	return ws, nil
}

// readModFile parses the module's go.mod. It runs again after each change by the go command.
func (m *module) readModFile(root string) error {
	name := path.Join(m.dir, "go.mod")
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		return err
	}

	file, err := modfile.Parse(name, text, nil)
	if err != nil {
		return err
	}
	if file.Module == nil {
		return fmt.Errorf("%s: no module line", name)
	}

	m.file, m.text = file, text
	return nil
}

// writeModFile saves the module's go.mod if it changed.
func (m *module) writeModFile(root string) error {
	m.file.Cleanup()
	m.file.SortBlocks()
	text, err := m.file.Format()
	if err != nil || bytes.Equal(text, m.text) {
		return err
	}
	m.text = text
	return os.WriteFile(filepath.Join(root, filepath.FromSlash(m.dir), "go.mod"), text, 0o644)
}

// isPassedOver reports whether the search skips a folder: the go command ignores it too, or make fills it.
func isPassedOver(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") ||
		slices.Contains([]string{"testdata", "vendor", "node_modules", "build"}, name)
}

// findModuleDirs returns the folders below root that hold a go.mod, sorted.
func findModuleDirs(root string) ([]string, error) {
	var dirs []string

	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name != root && isPassedOver(entry.Name()):
			return filepath.SkipDir
		case !entry.IsDir() && entry.Name() == "go.mod":
			dir, err := filepath.Rel(root, filepath.Dir(name))
			if err != nil {
				return err
			}
			dirs = append(dirs, filepath.ToSlash(dir))
		}
		return nil
	})

	slices.Sort(dirs)
	return dirs, err
}

// readImports sets the siblings that files of the module import.
func (ws *workspace) readImports(m *module) error {
	top := filepath.Join(ws.root, filepath.FromSlash(m.dir))
	found := map[string]bool{}
	err := filepath.WalkDir(top, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name == top {
				return nil
			}

			// A nested module has its own imports.
			_, err := os.Stat(filepath.Join(name, "go.mod"))
			if isPassedOver(entry.Name()) || err == nil {
				return filepath.SkipDir
			}
			return nil
		}

		if !strings.HasSuffix(name, ".go") || strings.HasPrefix(entry.Name(), ".") || strings.HasPrefix(entry.Name(), "_") {
			return nil
		}

		imports, err := fileImports(name)
		if err != nil {
			return err
		}
		for _, imported := range imports {
			if sibling := ws.moduleOfPackage(imported); sibling != nil && sibling != m {
				found[sibling.dir] = true
			}
		}
		return nil
	})

	m.imports = nil
	for dir := range found {
		m.imports = append(m.imports, dir)
	}
	slices.Sort(m.imports)
	return err
}

// fileImports returns the import paths of a Go file for all build tags. go mod tidy reads all of them too, except
// files marked "ignore". A file with syntax errors yields its readable imports; the compiler reports the errors.
func fileImports(name string) ([]string, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}

	file, _ := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly|parser.ParseComments)
	if file == nil {
		return nil, nil
	}
	for _, group := range file.Comments {
		for _, comment := range group.List {
			if expr, err := constraint.Parse(comment.Text); err == nil && expr.String() == "ignore" {
				return nil, nil
			}
		}
	}

	var imports []string
	for _, spec := range file.Imports {
		if imported, err := strconv.Unquote(spec.Path.Value); err == nil {
			imports = append(imports, imported)
		}
	}
	return imports, nil
}

// moduleOfPackage returns the module of a package. Modules may nest, so it is the one with the longest folder.
func (ws *workspace) moduleOfPackage(pkg string) *module {
	var owner *module
	for _, m := range ws.modules {
		modpath := prefix + m.dir
		if (pkg == modpath || strings.HasPrefix(pkg, modpath+"/")) && (owner == nil || len(m.dir) > len(owner.dir)) {
			owner = m
		}
	}
	return owner
}

// findSibling returns the module of the tree with this path, or nil for a third party.
func (ws *workspace) findSibling(modpath string) *module {
	for _, m := range ws.modules {
		if prefix+m.dir == modpath {
			return m
		}
	}
	return nil
}

// dependencyClosure returns the siblings that a module reaches through imports, sorted by folder. The module must replace each
// of them, because outside the workspace the go command reads all their go.mod files. Other requirements in a go.mod
// do not count: tidy drops them.
func (ws *workspace) dependencyClosure(m *module) []*module {
	seen := map[string]bool{m.dir: true}
	var reached []*module

	for todo := slices.Clone(m.imports); len(todo) > 0; {
		dir := todo[0]
		todo = todo[1:]
		if seen[dir] {
			continue
		}

		seen[dir] = true
		sibling := ws.findSibling(prefix + dir)
		reached = append(reached, sibling)
		todo = append(todo, sibling.imports...)
	}

	slices.SortFunc(reached, func(a, b *module) int { return strings.Compare(a.dir, b.dir) })
	return reached
}

// relativeFolder returns the path from the folder of m to that of other, as go.mod writes it.
func relativeFolder(m, other *module) string {
	rel, err := filepath.Rel(filepath.FromSlash(m.dir), filepath.FromSlash(other.dir))
	if err != nil {
		return other.dir
	}
	rel = filepath.ToSlash(rel)
	if !strings.HasPrefix(rel, "../") && rel != ".." {
		rel = "./" + rel
	}
	return rel
}
