package e2e_test

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestImages checks that each Dockerfile copies exactly the modules that its program needs. Images are seldom built,
// so a missing module would otherwise show late.
func TestImages(t *testing.T) {
	for app, program := range map[string]string{"server": "pgqueue-server", "worker": "pgqueue-worker", "cli": "pgqueue"} {
		t.Run(app, func(t *testing.T) {
			t.Parallel()
			files, modules := needs(t, app, program)
			copied := copies(t, app)

			// The go command reads the go.mod of every module that the app's go.mod requires, used or not.
			var manifests, sources []string
			for _, from := range copied {
				if dir, name := path.Split(from); name == "go.mod" {
					manifests = append(manifests, path.Clean(dir))
				} else if name != "go.sum" {
					sources = append(sources, from)
				}
			}
			slices.Sort(manifests)
			if want := required(t, app); !slices.Equal(manifests, want) {
				t.Errorf("it copies the go.mod of %v, and requires %v", manifests, want)
			}
			covers := func(source, file string) bool {
				match, err := path.Match(source, file)
				if err != nil {
					t.Fatal(err)
				}
				return match || strings.HasPrefix(file, source+"/")
			}
			for _, file := range files {
				if !slices.ContainsFunc(sources, func(source string) bool { return covers(source, file) }) {
					t.Errorf("it does not copy %s", file)
				}
			}
			for _, source := range sources {
				if !slices.ContainsFunc(files, func(file string) bool { return covers(source, file) }) {
					t.Errorf("it copies %s, which it does not need", source)
				}
			}
			if len(modules) == 0 || !slices.Contains(modules, "domain") {
				t.Errorf("the program is made of %v", modules) // then the test compares nothing
			}
		})
	}
}

// copies returns the paths that a Dockerfile copies out of the repository.
func copies(t *testing.T, app string) (paths []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "deploy", "docker", app+".Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == "COPY" && !strings.HasPrefix(f[1], "--from") {
			paths = append(paths, f[1:len(f)-1]...)
		}
	}
	return paths
}

// inApp runs go in the folder of an app like the image and parses the printed JSON.
func inApp[T any](t *testing.T, app string, args ...string) (all []T) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = filepath.Join("..", app)
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for dec := json.NewDecoder(out); ; {
		var one T
		if err := dec.Decode(&one); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return all
}

// needs returns the files of the repository in the build of a program, and their modules.
func needs(t *testing.T, app, program string) (files, modules []string) {
	t.Helper()
	top, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	type pkg struct {
		Dir                         string
		GoFiles, SFiles, EmbedFiles []string
		Module                      *struct{ Path, Dir string }
	}
	in := map[string]bool{}
	for _, p := range inApp[pkg](t, app, "list", "-deps", "-tags", "grpcnotrace", "-json=Dir,GoFiles,SFiles,EmbedFiles,Module", "./cmd/"+program) {
		dir, err := filepath.Rel(top, p.Dir)
		if err != nil || p.Module == nil || !filepath.IsLocal(dir) {
			continue
		}
		module, err := filepath.Rel(top, p.Module.Dir)
		if err != nil {
			t.Fatal(err)
		}
		in[filepath.ToSlash(module)] = true
		for _, file := range slices.Concat(p.GoFiles, p.SFiles, p.EmbedFiles) {
			files = append(files, path.Join(filepath.ToSlash(dir), file))
		}
	}
	return files, slices.Sorted(maps.Keys(in))
}

// required returns the folders of our modules that an app's go.mod requires, and its own folder.
func required(t *testing.T, app string) []string {
	t.Helper()
	type mod struct {
		Replace []struct{ New struct{ Path string } }
	}
	all := []string{"apps/" + app}
	for _, r := range inApp[mod](t, app, "mod", "edit", "-json")[0].Replace {
		all = append(all, path.Join("apps", app, filepath.ToSlash(r.New.Path)))
	}
	slices.Sort(all)
	return all
}
