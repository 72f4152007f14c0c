// Program ui bundles the dashboard from transport/web/ui into transport/web/dist. It needs no network and no Node.js:
//
//	ui FOLDER
//
// FOLDER is that of transport/web. The result has no source maps and depends on nothing but the sources and the versions of
// esbuild and of the vendored libraries. Exit code 1 and a message on standard error report a failure.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/evanw/esbuild/pkg/api"
)

// packages maps the names of imports to the vendored files in ui/vendor.
var packages = map[string]string{
	"preact":               "preact.mjs",
	"preact/hooks":         "hooks.mjs",
	"preact/jsx-runtime":   "jsx-runtime.mjs",
	"@preact/signals":      "signals.mjs",
	"@preact/signals-core": "signals-core.mjs",
}

// copied are the files that go into dist as they are.
var copied = []string{"index.html", "icons.svg"}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintf(os.Stderr, "ui: must get the folder of transport/web, got %d arguments; give one\n", len(os.Args)-1)
		os.Exit(2)
	}
	if err := bundle(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "ui:", err)
		os.Exit(1)
	}
}

// bundle writes dist anew.
func bundle(folder string) error {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return err
	}
	source, dist := filepath.Join(folder, "ui"), filepath.Join(folder, "dist")
	alias := map[string]string{}
	for name, file := range packages {
		alias[name] = filepath.Join(source, "vendor", file)
	}

	result := api.Build(api.BuildOptions{
		EntryPointsAdvanced: []api.EntryPoint{
			{InputPath: filepath.Join(source, "src", "main.tsx"), OutputPath: "app"},
			{InputPath: filepath.Join(source, "src", "app.css"), OutputPath: "app"},
		},
		AbsWorkingDir: source, Outdir: dist, Write: true, Bundle: true, Format: api.FormatESModule, Target: api.ES2022,
		MinifyWhitespace: true, MinifyIdentifiers: true, MinifySyntax: true, LegalComments: api.LegalCommentsNone, Charset: api.CharsetUTF8,
		JSX: api.JSXAutomatic, JSXImportSource: "preact", Alias: alias, LogLevel: api.LogLevelWarning, TsconfigRaw: "{}",
	})
	if len(result.Errors) > 0 {
		return errors.New("the sources must compile, got the errors above; mend them")
	}

	for _, name := range copied {
		content, err := os.ReadFile(filepath.Join(source, "src", name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dist, name), content, 0o644); err != nil { //nolint:gosec // a public file of the tree
			return err
		}
	}
	return writeLicences(filepath.Join(source, "vendor"), filepath.Join(dist, "LICENSES.txt"))
}

// writeLicences joins the licences of the vendored libraries.
func writeLicences(vendor, to string) error {
	names, err := filepath.Glob(filepath.Join(vendor, "*.LICENSE"))
	if err != nil {
		return err
	}
	slices.Sort(names)
	var all strings.Builder
	for _, name := range names {
		text, err := os.ReadFile(name) //nolint:gosec // a file of the tree
		if err != nil {
			return err
		}
		fmt.Fprintf(&all, "%s\n\n%s\n", strings.TrimSuffix(filepath.Base(name), ".LICENSE"), strings.TrimSpace(string(text))+"\n")
	}
	return os.WriteFile(to, []byte(strings.TrimSpace(all.String())+"\n"), 0o644) //nolint:gosec // a public file of the tree
}
