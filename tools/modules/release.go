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

// unreleased names the folders whose modules get no tag.
var unreleased = []string{"tools", "tools/chart", "apps/e2e"}

// rehearsal is a release to a module proxy in a folder that nobody else asks.
type rehearsal struct {
	ws  *workspace
	dir string   // of everything that the rehearsal writes
	env []string // sends the go command to the proxy
}

// releaseCheck publishes the modules to a throw-away proxy and uses them as strangers do: each library by go get, each
// program by go install. It finds what the workspace and the replaces hide: a package that lies in no released module,
// a replace without which nothing builds.
func (ws *workspace) releaseCheck(ctx context.Context, log io.Writer) error {
	dir, err := os.MkdirTemp("", "pgqueue-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r := &rehearsal{ws: ws, dir: dir}
	if err := r.setEnv(ctx); err != nil {
		return err
	}
	// Those that others need come first, because an app's go.sum is made from what the proxy has.
	for _, m := range ws.inOrder() {
		switch {
		case slices.Contains(unreleased, m.dir):
			continue
		case isApp(m):
			err = r.publishApp(ctx, m)
		default:
			err = r.publish(m, filepath.Join(ws.root, filepath.FromSlash(m.dir)))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m.dir, err)
		}
	}
	for _, m := range ws.modules {
		switch {
		case slices.Contains(unreleased, m.dir):
			continue
		case isApp(m):
			err = r.install(ctx, m, log)
		default:
			err = r.get(ctx, m, log)
		}
		if err != nil {
			return fmt.Errorf("%s@%s, used from outside: %w", prefix+m.dir, ws.version, err)
		}
	}
	return nil
}

func isApp(m *module) bool { return strings.HasPrefix(m.dir, "apps/") }

// setEnv keeps what is published out of the user's module cache, but takes third parties from it.
func (r *rehearsal) setEnv(ctx context.Context) error {
	output, err := exec.CommandContext(ctx, "go", "env", "-json", "GOMODCACHE", "GOPROXY").Output()
	if err != nil {
		return err
	}
	var user struct{ GOMODCACHE, GOPROXY string }
	if err := json.Unmarshal(output, &user); err != nil {
		return err
	}
	proxies := []string{fileURL(filepath.Join(r.dir, "proxy")), fileURL(filepath.Join(user.GOMODCACHE, "cache", "download")), user.GOPROXY}
	r.env = append(os.Environ(),
		"GOWORK=off",
		"GOPROXY="+strings.Join(proxies, ","),
		"GONOSUMDB="+prefix+"*",
		"GOMODCACHE="+filepath.Join(r.dir, "cache"),
		"GOBIN="+filepath.Join(r.dir, "bin"),
		// The cache must be writable to be removed.
		"GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -modcacherw"),
	)
	return nil
}

func fileURL(name string) string { return "file://" + filepath.ToSlash(name) }

// publish puts the module that lies in a folder into the proxy.
func (r *rehearsal) publish(m *module, folder string) error {
	escaped, err := modpaths.EscapePath(prefix + m.dir)
	if err != nil {
		return err
	}
	shelf := filepath.Join(r.dir, "proxy", filepath.FromSlash(escaped), "@v")
	if err := os.MkdirAll(shelf, 0o755); err != nil {
		return err
	}
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

// publishApp publishes a module without its replaces, which go install refuses.
func (r *rehearsal) publishApp(ctx context.Context, m *module) error {
	folder := filepath.Join(r.dir, "apps", filepath.FromSlash(m.dir))
	if err := os.CopyFS(folder, os.DirFS(filepath.Join(r.ws.root, filepath.FromSlash(m.dir)))); err != nil {
		return err
	}
	args := []string{"mod", "edit"}
	for _, replace := range m.file.Replace {
		args = append(args, "-dropreplace", replace.Old.Path)
	}
	if len(m.file.Replace) > 0 {
		if _, err := r.goCommand(ctx, folder, args...); err != nil {
			return err
		}
	}
	if _, err := r.goCommand(ctx, folder, "mod", "tidy"); err != nil {
		return err
	}
	return r.publish(m, folder)
}

// get builds all packages of a library in a module that requires nothing else.
func (r *rehearsal) get(ctx context.Context, m *module, log io.Writer) error {
	modpath := prefix + m.dir
	folder := filepath.Join(r.dir, "users", filepath.FromSlash(m.dir))
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	text := "module example.com/user\n\ngo " + r.ws.work.Go.Version + "\n"
	if err := os.WriteFile(filepath.Join(folder, "go.mod"), []byte(text), 0o644); err != nil {
		return err
	}
	// All packages, and with them the checksums of all that they import.
	if _, err := r.goCommand(ctx, folder, "get", modpath+"/...@"+r.ws.version); err != nil {
		return err
	}
	if _, err := r.goCommand(ctx, folder, "build", modpath+"/..."); err != nil {
		return err
	}
	fmt.Fprintf(log, "go get %s@%s works\n", modpath, r.ws.version)
	return nil
}

// install installs each program of an app.
func (r *rehearsal) install(ctx context.Context, m *module, log io.Writer) error {
	folder := filepath.Join(r.dir, "apps", filepath.FromSlash(m.dir))
	programs, err := r.goCommand(ctx, folder, "list", "-f", `{{if eq .Name "main"}}{{.ImportPath}}{{end}}`, "./...")
	if err != nil {
		return err
	}
	for program := range strings.FieldsSeq(programs) {
		if _, err := r.goCommand(ctx, r.dir, "install", program+"@"+r.ws.version); err != nil {
			return err
		}
		fmt.Fprintf(log, "go install %s@%s works\n", program, r.ws.version)
	}
	return nil
}

// goCommand runs the go command against the proxy and returns what it says on its standard output.
func (r *rehearsal) goCommand(ctx context.Context, folder string, args ...string) (string, error) {
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
