//go:build linux

package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// The short forms of the tests of packages and npm. They build no release.

// TestPackageForm looks into the description of the packages: their contents are files of the tree, settings survive an upgrade and
// are closed to others, units start programs that the package has, and each form needs what its scripts call.
func TestPackageForm(t *testing.T) {
	type content struct {
		Src, Dst, Type, Packager string
		FileInfo                 struct{ Mode int } `yaml:"file_info"`
	}
	var config struct {
		Builds []struct{ Binary string }
		NFPMs  []struct {
			PackageName string `yaml:"package_name"`
			License     string
			Maintainer  string
			Formats     []string
			BinDir      string `yaml:"bindir"`
			Contents    []content
			Scripts     map[string]string
			APK         struct{ Scripts map[string]string }
			Overrides   map[string]struct{ Dependencies []string }
		} `yaml:"nfpms"`
	}
	text, err := os.ReadFile(filepath.Join(root, ".goreleaser.yaml"))
	if err == nil {
		err = yaml.Unmarshal(text, &config)
	}
	if err != nil || len(config.NFPMs) != 1 {
		t.Fatalf("%d descriptions of packages, want 1: %v", len(config.NFPMs), err)
	}
	p := config.NFPMs[0]
	if p.PackageName != "pgqueue" || p.License != "Apache-2.0" || !strings.Contains(p.Maintainer, "@") || !slices.Equal(p.Formats, []string{"deb", "rpm", "apk"}) {
		t.Errorf("the control fields are %q, %q, %q, %v", p.PackageName, p.License, p.Maintainer, p.Formats)
	}

	var programs []string
	for _, b := range config.Builds {
		programs = append(programs, p.BinDir+"/"+b.Binary)
	}
	if want := []string{"/usr/bin/pgqueue", "/usr/bin/pgqueue-server", "/usr/bin/pgqueue-worker"}; !slices.Equal(programs, want) {
		t.Errorf("the package has the programs %v, want %v", programs, want)
	}

	// make package-files copies these folders.
	sources := strings.NewReplacer("build/package/settings", "deploy/package", "build/package/systemd", "deploy/systemd", "build/package/sql", "deploy/sql",
		"build/package/LICENSE", "LICENSE")
	installed := map[string]content{}
	for _, c := range p.Contents {
		installed[c.Dst+c.Packager] = c
		if c.Src == "" || strings.Contains(c.Src, "/completions/") || strings.Contains(c.Src, "/man/") {
			continue // a folder, or files that the program writes by itself
		}
		if _, err := os.Stat(filepath.Join(root, sources.Replace(c.Src))); err != nil {
			t.Errorf("%s: %v", c.Dst, err)
		}
	}
	for _, pattern := range []string{"*.env", "*.yaml"} {
		files, err := filepath.Glob(filepath.Join(root, "deploy", "package", pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s finds %v: %v", pattern, files, err)
		}
		for _, file := range files {
			c := installed["/etc/pgqueue/"+filepath.Base(file)]
			if c.Type != "config|noreplace" || c.FileInfo.Mode != 0o640 {
				t.Errorf("%s is installed as %q with the rights %o, want settings that an upgrade keeps, with 640", file, c.Type, c.FileInfo.Mode)
			}
		}
	}
	for _, unit := range []string{"pgqueue-server.service", "pgqueue-worker.service"} {
		text, err := os.ReadFile(filepath.Join(root, "deploy", "systemd", unit))
		if err != nil {
			t.Fatal(err)
		}
		if installed["/usr/lib/systemd/system/"+unit].Src == "" {
			t.Errorf("the package has no %s", unit)
		}
		for _, line := range regexp.MustCompile(`(?m)^(ExecStart|EnvironmentFile)=-?(\S+)`).FindAllStringSubmatch(string(text), -1) {
			path := strings.Replace(line[2], "/usr/local/bin/", "/usr/bin/", 1)
			if !slices.Contains(programs, path) && installed[path].Src == "" {
				t.Errorf("%s: %s names %s, which the package does not have", unit, line[1], path)
			}
		}
	}

	for step, script := range map[string]string{
		"postinstall": p.Scripts["postinstall"], "preremove": p.Scripts["preremove"], "postremove": p.Scripts["postremove"], "postupgrade": p.APK.Scripts["postupgrade"],
	} {
		if out, err := exec.CommandContext(t.Context(), "sh", "-n", filepath.Join(root, script)).CombinedOutput(); script == "" || err != nil {
			t.Errorf("%s runs %q: %v %s", step, script, err, out)
		}
	}
	for form, want := range map[string]string{"deb": "passwd", "rpm": "/usr/sbin/useradd", "apk": "musl-utils"} {
		if !slices.Contains(p.Overrides[form].Dependencies, want) {
			t.Errorf("the %s needs %v, without %s", form, p.Overrides[form].Dependencies, want)
		}
	}
}

// packageHost runs the scripts of the package on a machine of its own: a folder in place of those of the system, and commands that
// note their calls. There are users and groups where their files are.
type packageHost struct {
	t   *testing.T
	dir string
}

func newPackageHost(t *testing.T) *packageHost {
	t.Helper()
	h := &packageHost{t, t.TempDir()}
	for _, folder := range []string{"bin", "passwd", "group", "run/systemd/system", "etc/pgqueue", "etc/systemd/system/multi-user.target.wants", "var/lib"} {
		if err := os.MkdirAll(filepath.Join(h.dir, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, does := range map[string]string{
		"getent":   `[ -e "$dir/$1/$2" ]`,
		"useradd":  `for last; do :; done; : >"$dir/passwd/$last"`,
		"groupadd": `for last; do :; done; : >"$dir/group/$last"`,
		"userdel":  `rm "$dir/passwd/$1"`,
		"groupdel": `rm "$dir/group/$1"`,
		"chgrp":    "", "chmod": "", "systemctl": "",
	} {
		text := "#!/bin/sh\ndir=" + h.dir + "\necho \"" + name + " $*\" >>\"$dir/log\"\n" + does + "\n"
		if err := os.WriteFile(filepath.Join(h.dir, "bin", name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// run runs a script of the package and returns what it says.
func (h *packageHost) run(script string, args ...string) string {
	h.t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "deploy", "package", script))
	if err != nil {
		h.t.Fatal(err)
	}
	here := strings.NewReplacer("/etc/", h.dir+"/etc/", "/run/systemd", h.dir+"/run/systemd", "/var/lib/", h.dir+"/var/lib/")
	cmd := exec.CommandContext(h.t.Context(), "sh", append([]string{"-c", here.Replace(string(text)), script}, args...)...)
	cmd.Env = []string{"PATH=" + filepath.Join(h.dir, "bin") + ":/usr/bin:/bin"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.t.Errorf("%s %v: %v\n%s", script, args, err, out)
	}
	return string(out)
}

// state names the users, the groups and the notes that are there.
func (h *packageHost) state() string {
	h.t.Helper()
	var all []string
	for _, pattern := range []string{"passwd/*", "group/*", "var/lib/*", "var/lib/pgqueue/*"} {
		found, err := filepath.Glob(filepath.Join(h.dir, pattern))
		if err != nil {
			h.t.Fatal(err)
		}
		for _, path := range found {
			all = append(all, strings.TrimPrefix(path, h.dir+"/"))
		}
	}
	return strings.Join(all, " ")
}

// TestPackageScripts runs the scripts by the arguments of dpkg and rpm.
func TestPackageScripts(t *testing.T) {
	const made = "passwd/pgqueue group/pgqueue var/lib/pgqueue var/lib/pgqueue/group var/lib/pgqueue/user"
	check := func(h *packageHost, step, want string) {
		t.Helper()
		if got := h.state(); got != want {
			t.Errorf("after %s there are %q, want %q", step, got, want)
		}
	}
	t.Run("a purge removes the user and the group that the package has made", func(t *testing.T) {
		h := newPackageHost(t)
		if says := h.run("postinstall.sh", "configure", ""); !strings.Contains(says, "set the database") || strings.Contains(says, "background") {
			t.Errorf("a new installation says %q", says)
		}
		check(h, "the installation", made)
		h.run("preremove.sh", "remove")
		h.run("postremove.sh", "remove")
		check(h, "a removal", made)
		h.run("postinstall.sh", "configure", "0.1.0")
		h.run("postremove.sh", "purge")
		check(h, "a purge", "")
	})
	t.Run("a purge keeps those that were there before", func(t *testing.T) {
		h := newPackageHost(t)
		for _, name := range []string{"passwd/pgqueue", "group/pgqueue"} {
			if err := os.WriteFile(filepath.Join(h.dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		h.run("postinstall.sh", "configure", "")
		h.run("postremove.sh", "purge")
		check(h, "a purge", "passwd/pgqueue group/pgqueue")

		if err := os.Remove(filepath.Join(h.dir, "passwd", "pgqueue")); err != nil {
			t.Fatal(err)
		}
		h.run("postinstall.sh", "1")
		check(h, "an installation of rpm", "passwd/pgqueue group/pgqueue var/lib/pgqueue var/lib/pgqueue/user")
		h.run("preremove.sh", "0")
		h.run("postremove.sh", "0")
		check(h, "a removal of rpm", "group/pgqueue")
	})
	t.Run("an upgrade does not wait for the services, and says so", func(t *testing.T) {
		for _, args := range [][]string{{"configure", "0.1.0"}, {"2"}, {"0.2.0", "0.1.0"}} { // of deb, rpm and apk
			h := newPackageHost(t)
			if says := h.run("postinstall.sh", args...); !strings.Contains(says, "services that run start again in the background") {
				t.Errorf("%v says %q", args, says)
			}
			log, err := os.ReadFile(filepath.Join(h.dir, "log"))
			if err != nil {
				t.Fatal(err)
			}
			starts := regexp.MustCompile(`(?m)^systemctl .*restart .*$`).FindAllString(string(log), -1)
			if len(starts) != 2 || slices.ContainsFunc(starts, func(s string) bool { return !strings.Contains(s, " --no-block ") }) {
				t.Errorf("%v starts services by %q, want each of both without a wait", args, starts)
			}
		}
	})
}
