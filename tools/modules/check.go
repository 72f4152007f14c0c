package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/semver"
)

// checkWorkspace lists the differences inside the files themselves.
func (ws *workspace) checkWorkspace() []string {
	problems := ws.checkWorkFile()
	for _, m := range ws.modules {
		for _, problem := range slices.Concat(ws.checkModuleLines(m), ws.checkSiblings(m)) {
			problems = append(problems, path.Join(m.dir, "go.mod")+": "+problem)
		}
	}
	return append(problems, ws.checkThirdParties()...)
}

// checkWorkFile compares go.work with the existing modules.
func (ws *workspace) checkWorkFile() []string {
	var problems []string
	used := map[string]bool{}
	for _, use := range ws.work.Use {
		dir := path.Clean(use.Path)
		used[dir] = true
		if ws.findSibling(prefix+dir) == nil {
			problems = append(problems, fmt.Sprintf("go.work: %s has no go.mod", use.Path))
		}
	}

	for _, m := range ws.modules {
		switch {
		case m.isOutside() && used[m.dir]:
			problems = append(problems, fmt.Sprintf("go.work: %s must stay outside the workspace", m.dir))
		case !m.isOutside() && !used[m.dir]:
			problems = append(problems, fmt.Sprintf("go.work: %s is missing", m.dir))
		}
	}

	if ws.work.Toolchain != nil {
		problems = append(problems, "go.work: has a toolchain line; the go line says enough")
	}
	if len(ws.work.Replace) > 0 {
		problems = append(problems, "go.work: has a replace, so the workspace builds other code than a module alone does")
	}
	return problems
}

// checkModuleLines checks the name, the go line and the directives that work only in this tree.
func (ws *workspace) checkModuleLines(m *module) []string {
	var problems []string
	if got := m.file.Module.Mod.Path; got != prefix+m.dir {
		problems = append(problems, fmt.Sprintf("is named %s, its folder says %s", got, prefix+m.dir))
	}

	if m.file.Go == nil || m.file.Go.Version != ws.work.Go.Version {
		problems = append(problems, fmt.Sprintf("its go line is not go.work's, %s", ws.work.Go.Version))
	}

	if m.file.Toolchain != nil {
		problems = append(problems, "has a toolchain line; the go line says enough")
	}
	if len(m.file.Exclude) > 0 {
		problems = append(problems, "has an exclude, which users of the module do not get")
	}
	return problems
}

// checkSiblings compares the requires and replaces of siblings with the imports of the module's files.
func (ws *workspace) checkSiblings(m *module) []string {
	var problems []string
	for _, require := range m.file.Require {
		if !strings.HasPrefix(require.Mod.Path, prefix) {
			continue
		}
		if ws.findSibling(require.Mod.Path) == nil {
			problems = append(problems, fmt.Sprintf("requires %s, which does not exist", require.Mod.Path))
		} else if require.Mod.Version != ws.version {
			problems = append(problems, fmt.Sprintf("requires %s, but VERSION says %s", require.Mod, ws.version))
		}
	}

	missing := map[string]string{}
	for _, sibling := range ws.dependencyClosure(m) {
		missing[prefix+sibling.dir] = relativeFolder(m, sibling)
	}

	// Each replace takes its entry out of missing, so the rest of the map has no replace.
	for _, replace := range m.file.Replace {
		want, ok := missing[replace.Old.Path]
		switch {
		case !ok && !strings.HasPrefix(replace.Old.Path, prefix):
			problems = append(problems, fmt.Sprintf("replaces %s, which users of the module do not get", replace.Old.Path))
		case !ok:
			problems = append(problems, fmt.Sprintf("replaces %s, which it does not need", replace.Old.Path))
		case replace.Old.Version != "" || replace.New.Version != "" || replace.New.Path != want:
			problems = append(problems, fmt.Sprintf("replaces %s by %s, not by %s", replace.Old.Path, replace.New.Path, want))
		}
		delete(missing, replace.Old.Path)
	}

	for _, modpath := range slices.Sorted(maps.Keys(missing)) {
		problems = append(problems, fmt.Sprintf("does not replace %s by %s", modpath, missing[modpath]))
	}
	return problems
}

// thirdParties maps each third party and version to the folders of the modules in the workspace that require it.
// Indirect requirements count too. The workspace builds with the highest version, so each single module must be built
// and tested with the same.
func (ws *workspace) thirdParties() map[string]map[string][]string {
	all := map[string]map[string][]string{}
	for _, m := range ws.modules {
		if m.isOutside() {
			continue
		}

		for _, require := range m.file.Require {
			modpath, version := require.Mod.Path, require.Mod.Version
			if strings.HasPrefix(modpath, prefix) {
				continue
			}
			if all[modpath] == nil {
				all[modpath] = map[string][]string{}
			}
			all[modpath][version] = append(all[modpath][version], m.dir)
		}
	}
	return all
}

// checkThirdParties lists third parties with more than one version.
func (ws *workspace) checkThirdParties() []string {
	var problems []string
	all := ws.thirdParties()
	for _, modpath := range slices.Sorted(maps.Keys(all)) {
		if len(all[modpath]) == 1 {
			continue
		}

		var versions []string
		for _, version := range slices.SortedFunc(maps.Keys(all[modpath]), semver.Compare) {
			versions = append(versions, fmt.Sprintf("%s in %s", version, strings.Join(all[modpath][version], ", ")))
		}
		problems = append(problems, fmt.Sprintf("%s has more than one version: %s", modpath, strings.Join(versions, "; ")))
	}
	return problems
}

// checkTidiness lists the modules that go mod tidy would change.
func (ws *workspace) checkTidiness(ctx context.Context) []string {
	var problems []string
	for _, m := range ws.modules {
		if output, err := ws.runGoCommand(ctx, m, "mod", "tidy", "-diff"); err != nil {
			problems = append(problems, fmt.Sprintf("%s is not tidy:\n%s", path.Join(m.dir, "go.mod"), output))
		}
	}
	return problems
}

// runGoCommand runs the go command in a module without the workspace, as an outside user would.
func (ws *workspace) runGoCommand(ctx context.Context, m *module, args ...string) (string, error) {
	command := exec.CommandContext(ctx, "go", args...)
	command.Dir = filepath.Join(ws.root, filepath.FromSlash(m.dir))
	command.Env = append(os.Environ(), "GOWORK=off")
	output, err := command.CombinedOutput()
	return strings.TrimSpace(string(output)), err
}
