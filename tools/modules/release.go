package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	modpaths "golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

// unreleased lists the folders of modules that get no tag.
var unreleased = []string{"tools", "tools/chart", "apps/e2e"}

// rehearsal is a release to a module proxy in a private folder.
type rehearsal struct {
	ws  *workspace
	dir string   // holds all files that the rehearsal writes
	env []string // makes the go command use the proxy
}

// releaseCheck publishes the modules to a temporary proxy and uses them from outside: libraries by go get, programs
// by go install. It finds faults that the workspace and the replaces hide. Examples are a package that lies in no
// released module, and a replace that the build depends on.
func (ws *workspace) releaseCheck(ctx context.Context, log io.Writer) error {
	dir, err := os.MkdirTemp("", "pgqueue-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	r := &rehearsal{ws: ws, dir: dir}
	if err := r.setEnvironment(ctx); err != nil {
		return err
	}

	// Required modules come first: tidy writes the go.sum of an app from the contents of the proxy.
	for _, m := range ws.modulesInOrder() {
		switch {
		case slices.Contains(unreleased, m.dir):
			continue
		case isApplication(m):
			err = r.publishApplication(ctx, m)
		default:
			err = r.publishModule(m, filepath.Join(ws.root, filepath.FromSlash(m.dir)))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m.dir, err)
		}
	}

	for _, m := range ws.modules {
		switch {
		case slices.Contains(unreleased, m.dir):
			continue
		case isApplication(m):
			err = r.installApplications(ctx, m, log)
		default:
			err = r.getLibraries(ctx, m, log)
		}
		if err != nil {
			return fmt.Errorf("%s@%s, used from outside: %w", prefix+m.dir, ws.version, err)
		}
	}
	return nil
}

// isApplication reports whether the module holds programs.
func isApplication(m *module) bool { return strings.HasPrefix(m.dir, "apps/") }

// setEnvironment keeps the published modules out of the user's module cache, but reads third parties from that cache.
func (r *rehearsal) setEnvironment(ctx context.Context) error {
	output, err := exec.CommandContext(ctx, "go", "env", "-json", "GOMODCACHE", "GOPROXY").Output()
	if err != nil {
		return err
	}

	var user struct{ GOMODCACHE, GOPROXY string }
	if err := json.Unmarshal(output, &user); err != nil {
		return err
	}

	proxies := []string{proxyFileURL(filepath.Join(r.dir, "proxy")), proxyFileURL(filepath.Join(user.GOMODCACHE, "cache", "download")), user.GOPROXY}
	r.env = append(os.Environ(),
		"GOWORK=off",
		"GOPROXY="+strings.Join(proxies, ","),
		"GONOSUMDB="+prefix+"*",
		"GOMODCACHE="+filepath.Join(r.dir, "cache"),
		"GOBIN="+filepath.Join(r.dir, "bin"),
		// The go command makes its cache read-only by default, and RemoveAll could not delete it.
		"GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -modcacherw"),
	)
	return nil
}

// proxyFileURL returns the URL of a local folder for GOPROXY.
func proxyFileURL(name string) string { return "file://" + filepath.ToSlash(name) }

// publishModule adds the module in folder to the proxy.
func (r *rehearsal) publishModule(m *module, folder string) error {
	escaped, err := modpaths.EscapePath(prefix + m.dir)
	if err != nil {
		return err
	}
	shelf := filepath.Join(r.dir, "proxy", filepath.FromSlash(escaped), "@v")
	if err := os.MkdirAll(shelf, 0o755); err != nil {
		return err
	}

	// A proxy serves four files of each version: list, info, mod and zip.
	text, err := os.ReadFile(filepath.Join(folder, "go.mod"))
	if err != nil {
		return err
	}
	info := fmt.Sprintf("{%q: %q, %q: %q}", "Version", r.ws.version, "Time", time.Now().UTC().Format(time.RFC3339))
	for name, content := range map[string]string{
		"list":                 r.ws.version + "\n",
		r.ws.version + ".info": info,
		r.ws.version + ".mod":  string(text),
	} {
		if err := os.WriteFile(filepath.Join(shelf, name), []byte(content), 0o644); err != nil {
			return err
		}
	}

	archive, err := os.Create(filepath.Join(shelf, r.ws.version+".zip"))
	if err != nil {
		return err
	}
	version := modpaths.Version{Path: prefix + m.dir, Version: r.ws.version}
	if err := zip.CreateFromDir(archive, version, folder); err != nil {
		archive.Close()
		return err
	}
	return archive.Close()
}

// publishApplication publishes a copy of the module without its replaces, because go install refuses them.
func (r *rehearsal) publishApplication(ctx context.Context, m *module) error {
	folder := filepath.Join(r.dir, "apps", filepath.FromSlash(m.dir))
	if err := os.CopyFS(folder, os.DirFS(filepath.Join(r.ws.root, filepath.FromSlash(m.dir)))); err != nil {
		return err
	}

	args := []string{"mod", "edit"}
	for _, replace := range m.file.Replace {
		args = append(args, "-dropreplace", replace.Old.Path)
	}
	if len(m.file.Replace) > 0 {
		if _, err := r.runGoCommand(ctx, folder, args...); err != nil {
			return err
		}
	}

	if _, err := r.runGoCommand(ctx, folder, "mod", "tidy"); err != nil {
		return err
	}
	return r.publishModule(m, folder)
}

// getLibraries builds all packages of a library in a module without other requirements.
func (r *rehearsal) getLibraries(ctx context.Context, m *module, log io.Writer) error {
	modpath := prefix + m.dir
	folder := filepath.Join(r.dir, "users", filepath.FromSlash(m.dir))
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}

	text := "module example.com/user\n\ngo " + r.ws.work.Go.Version + "\n"
	if err := os.WriteFile(filepath.Join(folder, "go.mod"), []byte(text), 0o644); err != nil {
		return err
	}
	// The pattern names all packages, so go get also adds the checksums of their imports.
	if _, err := r.runGoCommand(ctx, folder, "get", modpath+"/...@"+r.ws.version); err != nil {
		return err
	}
	if _, err := r.runGoCommand(ctx, folder, "build", modpath+"/..."); err != nil {
		return err
	}
	fmt.Fprintf(log, "go get %s@%s works\n", modpath, r.ws.version)
	return nil
}

// installApplications installs each program of an app.
func (r *rehearsal) installApplications(ctx context.Context, m *module, log io.Writer) error {
	folder := filepath.Join(r.dir, "apps", filepath.FromSlash(m.dir))
	programs, err := r.runGoCommand(ctx, folder, "list", "-f", `{{if eq .Name "main"}}{{.ImportPath}}{{end}}`, "./...")
	if err != nil {
		return err
	}

	for program := range strings.FieldsSeq(programs) {
		if _, err := r.runGoCommand(ctx, r.dir, "install", program+"@"+r.ws.version); err != nil {
			return err
		}
		fmt.Fprintf(log, "go install %s@%s works\n", program, r.ws.version)
	}
	return nil
}

// runGoCommand runs the go command against the proxy and returns its standard output.
func (r *rehearsal) runGoCommand(ctx context.Context, folder string, args ...string) (string, error) {
	command := exec.CommandContext(ctx, "go", args...)
	command.Dir, command.Env = folder, r.env
	var complaints strings.Builder
	command.Stderr = &complaints
	output, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w\n%s%s", strings.Join(args, " "), err, &complaints, output)
	}
	return string(output), nil
}
