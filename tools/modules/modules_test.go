package main

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sound returns the files of a consistent workspace: b imports a in its code, c imports b in a test, d nests in b.
func sound() map[string]string {
	return map[string]string{
		"VERSION":     "v0.1.0\n",
		"go.work":     "go 1.26.0\n\nuse (\n\t./a\n\t./b\n\t./b/d\n\t./c\n)\n",
		"a/go.mod":    "module github.com/pgqueue/pgqueue/a\n\ngo 1.26.0\n",
		"a/a.go":      "package a\n",
		"b/go.mod":    "module github.com/pgqueue/pgqueue/b\n\ngo 1.26.0\n\nrequire github.com/pgqueue/pgqueue/a v0.1.0\n\nreplace github.com/pgqueue/pgqueue/a => ../a\n",
		"b/b.go":      "package b\n\nimport _ \"github.com/pgqueue/pgqueue/a\"\n",
		"b/d/go.mod":  "module github.com/pgqueue/pgqueue/b/d\n\ngo 1.26.0\n\nrequire github.com/pgqueue/pgqueue/b v0.1.0\n\nrequire github.com/pgqueue/pgqueue/a v0.1.0 // indirect\n\nreplace (\n\tgithub.com/pgqueue/pgqueue/a => ../../a\n\tgithub.com/pgqueue/pgqueue/b => ..\n)\n",
		"b/d/d.go":    "package d\n\nimport _ \"github.com/pgqueue/pgqueue/b\"\n",
		"c/go.mod":    "module github.com/pgqueue/pgqueue/c\n\ngo 1.26.0\n\nrequire github.com/pgqueue/pgqueue/b v0.1.0\n\nrequire github.com/pgqueue/pgqueue/a v0.1.0 // indirect\n\nreplace (\n\tgithub.com/pgqueue/pgqueue/a => ../a\n\tgithub.com/pgqueue/pgqueue/b => ../b\n)\n",
		"c/c.go":      "package c\n",
		"c/c_test.go": "package c\n\nimport _ \"github.com/pgqueue/pgqueue/b\"\n",
	}
}

// lay writes the files below a new folder.
func lay(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		name = filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// The fixtures need no real third party, so a request to a proxy would be a fault.
	t.Setenv("GOPROXY", "off")
	t.Setenv("GOFLAGS", "")
	return root
}

func mustLoad(t *testing.T, root string) *workspace {
	t.Helper()
	ws, err := loadWorkspace(root)
	if err != nil {
		t.Fatal(err)
	}
	return ws
}

func TestSoundWorkspacePasses(t *testing.T) {
	ws := mustLoad(t, lay(t, sound()))
	if problems := append(ws.checkWorkspace(), ws.checkTidiness(t.Context())...); len(problems) > 0 {
		t.Errorf("unexpected problems:\n%s", strings.Join(problems, "\n"))
	}
}

// TestEveryRuleCanFail breaks one rule at a time and expects exactly its sentence.
func TestEveryRuleCanFail(t *testing.T) {
	replace := func(name, old, text string) func(map[string]string) {
		return func(files map[string]string) {
			if !strings.Contains(files[name], old) {
				panic(name + " has no " + old)
			}
			files[name] = strings.Replace(files[name], old, text, 1)
		}
	}
	require := func(name, line string) func(map[string]string) {
		return func(files map[string]string) { files[name] += "\n" + line + "\n" }
	}
	both := func(first, second func(map[string]string)) func(map[string]string) {
		return func(files map[string]string) { first(files); second(files) }
	}
	for _, test := range []struct {
		rule  string
		spoil func(map[string]string)
		want  []string
	}{
		{
			"go.work lacks a module", replace("go.work", "\t./c\n", ""),
			[]string{"go.work: c is missing"},
		},
		{
			"go.work names a folder without a module", replace("go.work", "\t./c\n", "\t./c\n\t./e\n"),
			[]string{"go.work: ./e has no go.mod"},
		},
		{
			"go.work has the tools", func(files map[string]string) {
				files["go.work"] = strings.Replace(files["go.work"], "\t./c\n", "\t./c\n\t./tools\n", 1)
				files["tools/go.mod"] = "module github.com/pgqueue/pgqueue/tools\n\ngo 1.26.0\n"
			},
			[]string{"go.work: tools must stay outside the workspace"},
		},
		{
			"go.work has a toolchain line", require("go.work", "toolchain go1.26.0"),
			[]string{"go.work: has a toolchain line; the go line says enough"},
		},
		{
			"go.work has a replace", require("go.work", "replace example.com/x => ./a"),
			[]string{"go.work: has a replace, so the workspace builds other code than a module alone does"},
		},
		{
			"a module is not named after its folder", replace("a/go.mod", "pgqueue/a", "pgqueue/other"),
			[]string{"a/go.mod: is named github.com/pgqueue/pgqueue/other, its folder says github.com/pgqueue/pgqueue/a"},
		},
		{
			"another go line", replace("a/go.mod", "go 1.26.0", "go 1.25.0"),
			[]string{"a/go.mod: its go line is not go.work's, 1.26.0"},
		},
		{
			"no go line", replace("a/go.mod", "go 1.26.0", ""),
			[]string{"a/go.mod: its go line is not go.work's, 1.26.0"},
		},
		{
			"a toolchain line", require("a/go.mod", "toolchain go1.26.1"),
			[]string{"a/go.mod: has a toolchain line; the go line says enough"},
		},
		{
			"an exclude", require("a/go.mod", "exclude example.com/x v1.0.0"),
			[]string{"a/go.mod: has an exclude, which users of the module do not get"},
		},
		{
			"a sibling at another version", replace("b/go.mod", "v0.1.0", "v0.0.9"),
			[]string{"b/go.mod: requires github.com/pgqueue/pgqueue/a@v0.0.9, but VERSION says v0.1.0"},
		},
		{
			"a sibling that does not exist", require("a/go.mod", "require github.com/pgqueue/pgqueue/gone v0.1.0"),
			[]string{"a/go.mod: requires github.com/pgqueue/pgqueue/gone, which does not exist"},
		},
		{
			"a sibling reached through another is not replaced",
			replace("c/go.mod", "\tgithub.com/pgqueue/pgqueue/a => ../a\n", ""),
			[]string{"c/go.mod: does not replace github.com/pgqueue/pgqueue/a by ../a"},
		},
		{
			"a sibling replaced by another folder", replace("b/go.mod", "=> ../a", "=> ../c"),
			[]string{"b/go.mod: replaces github.com/pgqueue/pgqueue/a by ../c, not by ../a"},
		},
		{
			"a sibling that is not needed is replaced", require("b/go.mod", "replace github.com/pgqueue/pgqueue/c => ../c"),
			[]string{"b/go.mod: replaces github.com/pgqueue/pgqueue/c, which it does not need"},
		},
		{
			"a third party is replaced", require("a/go.mod", "replace example.com/x => ../x"),
			[]string{"a/go.mod: replaces example.com/x, which users of the module do not get"},
		},
		{
			"two versions of a third party", both(
				require("a/go.mod", "require example.com/x v1.0.0"), require("c/go.mod", "require example.com/x v1.1.0 // indirect")),
			[]string{"example.com/x has more than one version: v1.0.0 in a; v1.1.0 in c"},
		},
	} {
		t.Run(test.rule, func(t *testing.T) {
			files := sound()
			test.spoil(files)
			if got := mustLoad(t, lay(t, files)).checkWorkspace(); !slices.Equal(got, test.want) {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}

func TestVersionsOfToolsAreTheirOwn(t *testing.T) {
	files := sound()
	files["a/go.mod"] += "\nrequire example.com/x v1.0.0\n"
	files["tools/go.mod"] = "module github.com/pgqueue/pgqueue/tools\n\ngo 1.26.0\n\nrequire example.com/x v1.1.0\n"
	if problems := mustLoad(t, lay(t, files)).checkWorkspace(); len(problems) > 0 {
		t.Errorf("unexpected problems: %q", problems)
	}
}

func TestModuleThatIsNotTidyFails(t *testing.T) {
	files := sound()
	files["b/b.go"] = "package b\n" // so a is an unused requirement
	problems := mustLoad(t, lay(t, files)).checkTidiness(t.Context())
	if len(problems) == 0 || !strings.HasPrefix(problems[0], "b/go.mod is not tidy:") {
		t.Errorf("got %q", problems)
	}
}

func TestBrokenFilesAreNamed(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"go.work", "use ./a\n", "go.work: no go line"},
		{"go.work", "what\n", "go.work:1"},
		{"VERSION", "0.1\n", `VERSION: must be a full semantic version such as v1.2.3, got "0.1"`},
		{"a/go.mod", "go 1.26.0\n", "a/go.mod: no module line"},
		{"a/go.mod", "what\n", "a/go.mod:1"},
	} {
		files := sound()
		files[test.name] = test.text
		if _, err := loadWorkspace(lay(t, files)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s with %q: got %v, want %s", test.name, test.text, err, test.want)
		}
	}
}

// TestSyncMends starts from a workspace where only go.work, the folder names and the imports are right.
func TestSyncMends(t *testing.T) {
	files := sound()
	files["a/go.mod"] = "module github.com/pgqueue/pgqueue/other\n\ngo 1.25.0\n\ntoolchain go1.26.0\n\nrequire github.com/pgqueue/pgqueue/gone v0.1.0\n"
	files["b/go.mod"] = "module github.com/pgqueue/pgqueue/b\n"
	files["b/d/go.mod"] = "module github.com/pgqueue/pgqueue/b/d\n\nrequire github.com/pgqueue/pgqueue/b v0.0.1\n\nreplace github.com/pgqueue/pgqueue/b => ../wrong\n"
	files["c/go.mod"] = "module github.com/pgqueue/pgqueue/c\n\nreplace (\n\tgithub.com/pgqueue/pgqueue/b v0.0.1 => ../b\n\tgithub.com/pgqueue/pgqueue/b/d => ../b/d\n)\n"
	files["go.work.sum"] = "example.com/once/tried v1.0.0 h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
	root := lay(t, files)
	if err := mustLoad(t, root).syncWorkspace(t.Context(), io.Discard); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "go.work.sum")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("go.work.sum is still there: %v", err)
	}
	for name, want := range sound() {
		got, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		if err != nil {
			t.Error(err)
		} else if string(got) != want {
			t.Errorf("%s is\n%s\nwant\n%s", name, got, want)
		}
	}
}

// TestSyncOfNestedModuleThatNeedsNothing: tidy searches for the packages of an inner module in the outer module too.
func TestSyncOfNestedModuleThatNeedsNothing(t *testing.T) {
	files := sound()
	files["b/d/d.go"] = "package d\n"
	root := lay(t, files)
	if err := mustLoad(t, root).syncWorkspace(t.Context(), io.Discard); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(root, "b", "d", "go.mod"))
	if want := "module github.com/pgqueue/pgqueue/b/d\n\ngo 1.26.0\n"; err != nil || string(got) != want {
		t.Errorf("b/d/go.mod is %q, %v", got, err)
	}
}

func TestSyncRaisesToTheHighestVersion(t *testing.T) {
	files := sound()
	files["a/go.mod"] += "\nrequire example.com/x v1.9.0\n"
	files["c/go.mod"] += "\nrequire example.com/x v1.10.0 // indirect\n"
	ws := mustLoad(t, lay(t, files))
	var log bytes.Buffer
	changed := ws.raiseRequirement(&log)
	if len(changed) != 1 || changed[0].dir != "a" {
		t.Errorf("changed %v", changed)
	}
	if want := "a/go.mod: example.com/x v1.9.0 => v1.10.0\n"; log.String() != want {
		t.Errorf("said %q, want %q", log.String(), want)
	}
	if problems := ws.checkThirdParties(); len(problems) > 0 {
		t.Errorf("unexpected problems: %q", problems)
	}
}

func TestSyncTidiesTheOthersWhenOneModuleFails(t *testing.T) {
	files := sound()
	files["a/a.go"] = "package a\n\nimport _ \"example.com/unknown\"\n"
	files["c/c_test.go"] = "package c\n" // so c has no requirements left
	root := lay(t, files)
	err := mustLoad(t, root).syncWorkspace(t.Context(), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "a: go mod tidy:") {
		t.Errorf("got %v", err)
	}
	got, err := os.ReadFile(filepath.Join(root, "c", "go.mod"))
	if want := "module github.com/pgqueue/pgqueue/c\n\ngo 1.26.0\n"; err != nil || string(got) != want {
		t.Errorf("c/go.mod is %q, %v", got, err)
	}
}

func TestCommandLine(t *testing.T) {
	good := lay(t, sound())
	files := sound()
	files["go.work"] = strings.Replace(files["go.work"], "\t./c\n", "", 1)
	bad := lay(t, files)
	for _, test := range []struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		{[]string{"-root", good, "check"}, 0, "", ""},
		{[]string{"-root", good, "list"}, 0, "a\nb\nb/d\nc\n", ""},
		{[]string{"-root", good, "sync"}, 0, "", ""},
		{[]string{"-root", bad, "check"}, 1, "", "go.work: c is missing"},
		{[]string{"-root", bad, "sync"}, 1, "", "mend go.work first"},
		{[]string{"-root", filepath.Join(good, "nowhere"), "check"}, 1, "", "go.work"},
		{[]string{"-root", good, "what"}, 2, "", "unknown verb"},
		{[]string{"-root", good}, 2, "", "usage:"},
		{[]string{"-what"}, 2, "", "usage:"},
	} {
		var stdout, stderr bytes.Buffer
		code := runCommand(t.Context(), test.args, &stdout, &stderr)
		if code != test.code || stdout.String() != test.stdout || !strings.Contains(stderr.String(), test.stderr) ||
			(test.stderr == "" && stderr.Len() > 0) {
			t.Errorf("%v: code %d, stdout %q, stderr %q", test.args, code, &stdout, &stderr)
		}
	}
}

func TestReleaseIsUsedFromOutside(t *testing.T) {
	files := sound()
	files["go.work"] = strings.Replace(files["go.work"], "\t./a\n", "\t./a\n\t./apps/p\n", 1)
	files["apps/p/go.mod"] = "module github.com/pgqueue/pgqueue/apps/p\n\ngo 1.26.0\n"
	files["apps/p/cmd/tool/main.go"] = "package main\n\nimport _ \"github.com/pgqueue/pgqueue/b\"\n\nfunc main() {}\n"
	root := lay(t, files)
	ws := mustLoad(t, root)
	if err := ws.syncWorkspace(t.Context(), io.Discard); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	if err := ws.releaseCheck(t.Context(), &log); err != nil {
		t.Fatal(err)
	}
	want := "go get github.com/pgqueue/pgqueue/a@v0.1.0 works\n" +
		"go install github.com/pgqueue/pgqueue/apps/p/cmd/tool@v0.1.0 works\n" +
		"go get github.com/pgqueue/pgqueue/b@v0.1.0 works\n" +
		"go get github.com/pgqueue/pgqueue/b/d@v0.1.0 works\n" +
		"go get github.com/pgqueue/pgqueue/c@v0.1.0 works\n"
	if log.String() != want {
		t.Errorf("said\n%swant\n%s", &log, want)
	}
}

// TestReleaseThatOnlyBuildsHereFails: a replaced third party builds in this tree only.
func TestReleaseThatOnlyBuildsHereFails(t *testing.T) {
	files := sound()
	files["a/go.mod"] += "\nrequire example.com/x v1.0.0\n\nreplace example.com/x => ../testdata/x\n"
	files["a/a.go"] = "package a\n\nimport _ \"example.com/x\"\n"
	files["testdata/x/go.mod"] = "module example.com/x\n\ngo 1.26.0\n"
	files["testdata/x/x.go"] = "package x\n"
	root := lay(t, files)
	ws := mustLoad(t, root)
	if output, err := ws.runGoCommand(t.Context(), ws.modules[0], "build", "./..."); err != nil {
		t.Fatalf("does not even build here: %v\n%s", err, output)
	}
	err := ws.releaseCheck(t.Context(), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "pgqueue/a@v0.1.0, used from outside: go get") {
		t.Errorf("got %v", err)
	}
}
