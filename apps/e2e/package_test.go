//go:build linux

package e2e_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestPackage makes a release of this platform without a network, twice with the same bytes, and tries its package on a Debian
// with systemd: installed, units verified and started, a task worked by them, upgraded, and purged without a trace. The rpm follows
// there by the program of Debian.
func TestPackage(t *testing.T) {
	if os.Getenv("PGQUEUE_TEST_FULL") == "" {
		t.Skip("builds each program twice; runs with PGQUEUE_TEST_FULL=1")
	}
	if missing := missingForPackage(); missing != "" {
		t.Logf("the packages were not tried: %s", missing)
		t.Skip(missing)
	}

	makeDist(t)
	first := readSums(t)
	makeDist(t)
	if second := readSums(t); first != second {
		t.Errorf("two releases of one commit differ:\n%s\n%s", first, second)
	}
	for _, form := range []string{".tar.gz", ".deb", ".rpm", ".apk", ".cdx.json"} {
		if !strings.Contains(first, form+"\n") {
			t.Errorf("no %s in the release:\n%s", form, first)
		}
	}

	folder := t.TempDir()
	for _, name := range []string{"boot.sh", "try.sh", "try.service"} {
		copyInto(t, filepath.Join("testdata", "package", name), filepath.Join(folder, name))
	}
	for _, name := range []string{"preremove.sh", "postremove.sh"} {
		copyInto(t, filepath.Join(root, "deploy", "package", name), filepath.Join(folder, name))
	}
	for _, form := range []string{"deb", "rpm"} {
		copyInto(t, onlyFile(t, "*."+form), filepath.Join(folder, "pgqueue."+form))
	}
	bootDebian(t, folder)
	checkAPK(t, onlyFile(t, "*.apk"))
}

// onlyFile returns the one file of the release with a pattern.
func onlyFile(t *testing.T, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "build", "dist", pattern))
	if err != nil || len(files) != 1 {
		t.Fatalf("%s finds %v: %v", pattern, files, err)
	}
	return files[0]
}

// checkAPK looks into the package of Alpine, of which no tool runs here: its files with their rights, its dependency, and the script
// of each step.
func checkAPK(t *testing.T, name string) {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file) // both streams: the scripts, then the files
	if err != nil {
		t.Fatal(err)
	}
	seen, contents := map[string]string{}, map[string]string{}
	for archive := tar.NewReader(unzipped); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		seen[header.Name] = fmt.Sprintf("%d:%d %o", header.Uid, header.Gid, header.Mode)
		if strings.HasPrefix(header.Name, ".") {
			text, err := io.ReadAll(archive)
			if err != nil {
				t.Fatal(err)
			}
			contents[header.Name] = string(text)
		}
	}

	for name, want := range map[string]string{
		"usr/bin/pgqueue": "0:0 755", "usr/bin/pgqueue-server": "0:0 755", "usr/bin/pgqueue-worker": "0:0 755",
		"etc/pgqueue/server.env": "0:0 640", "etc/pgqueue/worker.env": "0:0 640", "etc/pgqueue/worker.yaml": "0:0 640",
		"usr/share/zsh/site-functions/_pgqueue": "0:0 644", "usr/share/man/man1/pgqueue.1": "0:0 644", "usr/share/pgqueue/sql/roles.sql": "0:0 644",
	} {
		if seen[name] != want {
			t.Errorf("%s of the apk is %q, want %q", name, seen[name], want)
		}
	}
	for script, source := range map[string]string{
		".post-install": "postinstall.sh", ".post-upgrade": "postinstall.sh", ".pre-deinstall": "preremove.sh", ".post-deinstall": "postremove.sh",
	} {
		want, err := os.ReadFile(filepath.Join(root, "deploy", "package", source))
		if err != nil || contents[script] != string(want) {
			t.Errorf("%s of the apk is not %s (%v):\n%s", script, source, err, contents[script])
		}
	}
	if !strings.Contains(contents[".PKGINFO"], "\ndepend = musl-utils\n") {
		t.Errorf("the apk does not need getent:\n%s", contents[".PKGINFO"])
	}
}

// missingForPackage returns the first thing that the test needs and this machine does not have, or "".
func missingForPackage() string {
	if os.Getuid() != 0 {
		return "needs root, for a container"
	}
	for _, name := range []string{"make", "unshare", "dpkg", "rpm", "systemd-analyze", "ip", "runuser", "man"} {
		if _, err := exec.LookPath(name); err != nil {
			return "needs " + name
		}
	}
	for name, pattern := range map[string]string{
		"goreleaser: make .bin/goreleaser": filepath.Join(root, ".bin", "goreleaser"), "systemd": "/lib/systemd/systemd",
		"Debian": "/etc/debian_version", "Debian's PostgreSQL": "/usr/lib/postgresql/*/bin/postgres",
	} {
		if found, _ := filepath.Glob(pattern); len(found) == 0 {
			return "needs " + name
		}
	}
	if findControlGroups() == "" {
		return "needs the second version of control groups"
	}
	return ""
}

// makeDist runs "make dist" for this platform in a network of its own, which reaches nothing.
func makeDist(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "--net", "make", "dist", "DIST_OS=linux", "DIST_ARCH="+runtime.GOARCH)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// readSums returns the checksums of the release. They name each file.
func readSums(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "build", "dist", "*_checksums.txt"))
	if err != nil || len(files) != 1 {
		t.Fatalf("checksums in %v: %v", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// findControlGroups returns the folder of the second version of control groups, or "".
func findControlGroups() string {
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			return f[1]
		}
	}
	return ""
}

// bootDebian boots a container with the package of a folder. It has a control group of its own.
func bootDebian(t *testing.T, folder string) {
	t.Helper()
	group := filepath.Join(findControlGroups(), fmt.Sprintf("pgqueue-test-%d", os.Getpid()))
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeGroups(t, group) })

	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
	defer cancel()
	const enter = `echo $$ >"$1/cgroup.procs" && shift && exec "$@"`
	cmd := exec.CommandContext(ctx, "sh", "-c", enter, "sh", group,
		"unshare", "--mount", "--pid", "--ipc", "--uts", "--net", "--cgroup", "--fork", "--kill-child",
		"bash", filepath.Join(folder, "boot.sh"), t.TempDir(), folder)
	out, err := cmd.CombinedOutput()
	log, readErr := os.ReadFile(filepath.Join(folder, "log"))
	if err != nil || readErr != nil || !bytes.HasSuffix(log, []byte("purged without a trace\n")) {
		t.Errorf("%v, %v\n%s\n%s", err, readErr, out, log)
	}
}

// removeGroups removes a control group and those that systemd made in it. All are empty after the end of the container.
func removeGroups(t *testing.T, group string) {
	t.Helper()
	var all []string
	if err := filepath.WalkDir(group, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			all = append(all, path)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	for _, path := range slices.Backward(all) {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}
