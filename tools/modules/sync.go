package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"
)

// rounds limits how often sync raises third parties to one version. A raised module may raise its own requirements.
const rounds = 10

// syncWorkspace writes the common values into every go.mod and tidies each. It does not change go.work: people decide which
// modules exist.
func (ws *workspace) syncWorkspace(ctx context.Context, log io.Writer) error {
	if problems := ws.checkWorkFile(); len(problems) > 0 {
		return fmt.Errorf("mend go.work first:\n%s", strings.Join(problems, "\n"))
	}

	for _, m := range ws.modules {
		if err := ws.setModuleLines(m); err != nil {
			return err
		}
		if err := m.writeModFile(ws.root); err != nil {
			return err
		}
	}

	// Required modules come first, because tidy reads the go.mod files of the siblings.
	todo := ws.modulesInOrder()

	for range rounds {
		// A module that does not resolve must not stop the others: people work on several modules at once.
		var failed []error
		for _, m := range todo {
			if output, err := ws.runGoCommand(ctx, m, "mod", "tidy"); err != nil {
				failed = append(failed, fmt.Errorf("%s: go mod tidy: %w\n%s", m.dir, err, output))
			}
			if err := m.readModFile(ws.root); err != nil {
				return err
			}
		}

		if len(failed) > 0 {
			return errors.Join(failed...)
		}
		if todo = ws.raiseRequirement(log); len(todo) == 0 {
			return ws.writeWorkSum(ctx)
		}

		for _, m := range todo {
			if err := m.writeModFile(ws.root); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("third parties do not settle on one version each after %d rounds", rounds)
}

// writeWorkSum writes go.work.sum anew. The go command only adds lines to it, so the file would keep those of dropped
// requirements.
func (ws *workspace) writeWorkSum(ctx context.Context) error {
	if err := os.Remove(filepath.Join(ws.root, "go.work.sum")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}

	work, err := filepath.Abs(filepath.Join(ws.root, "go.work"))
	if err != nil {
		return err
	}

	command := exec.CommandContext(ctx, "go", "list", "-m", "all")
	command.Dir = ws.root
	command.Env = append(os.Environ(), "GOWORK="+work)
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("go list -m all: %w\n%s", err, output)
	}
	return nil
}

// setModuleLines writes the module line, the go line and the requirements of siblings.
func (ws *workspace) setModuleLines(m *module) error {
	file := m.file
	if err := file.AddModuleStmt(prefix + m.dir); err != nil {
		return err
	}
	if err := file.AddGoStmt(ws.work.Go.Version); err != nil {
		return err
	}
	file.DropToolchainStmt()

	reached := ws.dependencyClosure(m)
	required := map[string]bool{}
	for _, require := range slices.Clone(file.Require) {
		modpath := require.Mod.Path
		switch {
		case !strings.HasPrefix(modpath, prefix):
		case !slices.ContainsFunc(reached, func(sibling *module) bool { return prefix+sibling.dir == modpath }):
			// Tidy would drop it too, but first it would search for the module that is not replaced.
			if err := file.DropRequire(modpath); err != nil {
				return err
			}
		default:
			required[modpath] = true
			if err := file.AddRequire(modpath, ws.version); err != nil {
				return err
			}
		}
	}

	for _, dir := range m.imports {
		if !required[prefix+dir] {
			file.AddNewRequire(prefix+dir, ws.version, false)
		}
	}
	return ws.setReplaces(m)
}

// setReplaces replaces exactly the siblings of the closure by folders. A replaced third party stays, so that check
// can report it: dropping it here could hide its purpose.
func (ws *workspace) setReplaces(m *module) error {
	for _, replace := range slices.Clone(m.file.Replace) {
		if strings.HasPrefix(replace.Old.Path, prefix) {
			if err := m.file.DropReplace(replace.Old.Path, replace.Old.Version); err != nil {
				return err
			}
		}
	}
	m.file.Cleanup()

	// The lines form one block; AddReplace would write one statement for each.
	block := &modfile.LineBlock{Token: []string{"replace"}}
	for _, sibling := range ws.dependencyClosure(m) {
		tokens := []string{prefix + sibling.dir, "=>", relativeFolder(m, sibling)}
		block.Line = append(block.Line, &modfile.Line{Token: tokens, InBlock: true})
	}

	switch len(block.Line) {
	case 0:
		return nil
	case 1:
		line := &modfile.Line{Token: slices.Concat(block.Token, block.Line[0].Token)}
		m.file.Syntax.Stmt = append(m.file.Syntax.Stmt, line)
	default:
		m.file.Syntax.Stmt = append(m.file.Syntax.Stmt, block)
	}

	file, err := modfile.Parse(m.file.Syntax.Name, modfile.Format(m.file.Syntax), nil)
	if err != nil {
		return err
	}
	m.file = file
	return nil
}

// modulesInOrder sorts the modules so that each comes after those that it reaches.
func (ws *workspace) modulesInOrder() []*module {
	ordered := slices.Clone(ws.modules)
	slices.SortStableFunc(ordered, func(a, b *module) int { return len(ws.dependencyClosure(a)) - len(ws.dependencyClosure(b)) })
	return ordered
}

// raiseRequirement sets each third party to the highest version that any module requires. It returns the modules that it
// changed.
func (ws *workspace) raiseRequirement(log io.Writer) []*module {
	highest := map[string]string{}
	for modpath, versions := range ws.thirdParties() {
		for version := range versions {
			if semver.Compare(version, highest[modpath]) > 0 {
				highest[modpath] = version
			}
		}
	}

	var changed []*module
	for _, m := range ws.modulesInOrder() {
		if !m.isOutside() && raiseRequirementIn(m.file, highest, func(modpath, from, to string) {
			fmt.Fprintf(log, "%s: %s %s => %s\n", path.Join(m.dir, "go.mod"), modpath, from, to)
		}) {
			changed = append(changed, m)
		}
	}
	return changed
}

// raiseRequirementIn raises the requirements of one file and calls the callback for each. It returns whether it changed any.
func raiseRequirementIn(file *modfile.File, highest map[string]string, tell func(modpath, from, to string)) bool {
	changed := false
	for _, require := range slices.Clone(file.Require) {
		modpath, from := require.Mod.Path, require.Mod.Version
		to, ok := highest[modpath]
		if !ok || to == from {
			continue
		}

		tell(modpath, from, to)
		// The path exists, so AddRequire only changes its version and cannot fail.
		_ = file.AddRequire(modpath, to)
		changed = true
	}
	return changed
}
