// Command npm writes the folders of the npm packages, which "npm pack" makes tarballs of:
//
//	npm -root TREE VERSION FOLDER linux-x64=PROGRAM darwin-arm64=PROGRAM…
//
// The package pgqueue has a small program for Node.js. It depends on the package of each platform, which has the program, and
// on PostgreSQL's programs of the platform; npm installs only those of the machine.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// postgresVersion is the version of the packages @embedded-postgres/*, one of POSTGRES_VERSIONS in the Makefile.
const postgresVersion = "18.4.0-beta.17"

// platforms are the names of Node.js, with those of the packages of PostgreSQL. Windows on arm64 has no PostgreSQL.
var platforms = map[string]string{
	"linux-x64": "linux-x64", "linux-arm64": "linux-arm64", "darwin-x64": "darwin-x64", "darwin-arm64": "darwin-arm64",
	"win32-x64": "windows-x64", "win32-arm64": "",
}

// description is a package.json.
type description struct {
	Name                 string            `json:"name"`
	Version              string            `json:"version"`
	Description          string            `json:"description"`
	License              string            `json:"license"`
	Homepage             string            `json:"homepage"`
	Bin                  map[string]string `json:"bin,omitempty"`
	Files                []string          `json:"files"`
	OS                   []string          `json:"os,omitempty"`
	CPU                  []string          `json:"cpu,omitempty"`
	Engines              map[string]string `json:"engines,omitempty"`
	OptionalDependencies map[string]string `json:"optionalDependencies,omitempty"`
}

func main() {
	root := flag.String("root", ".", "`folder` of the repository")
	flag.Parse()
	if err := writePackages(*root, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "npm:", err)
		os.Exit(1)
	}
}

// semantic is a version that npm takes.
var semantic = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$`)

func writePackages(root string, args []string) error {
	if len(args) < 3 {
		return errors.New("usage: npm [-root TREE] VERSION FOLDER PLATFORM=PROGRAM [PLATFORM=PROGRAM]")
	}
	version, folder := strings.TrimPrefix(args[0], "v"), args[1]
	if !semantic.MatchString(version) {
		return fmt.Errorf("version: must be like 1.2.3 or 1.2.3-rc.1, got %.64q; take that of the file VERSION", args[0])
	}

	top := base("pgqueue", version)
	top.Bin = map[string]string{"pgqueue": "bin/pgqueue.js"}
	top.Engines = map[string]string{"node": ">=18"}
	top.OptionalDependencies = map[string]string{}
	for _, pair := range args[2:] {
		platform, program, _ := strings.Cut(pair, "=")
		postgres, known := platforms[platform]
		if !known {
			return fmt.Errorf("platform: must be one that Node.js names, as linux-x64, got %.64q", platform)
		}
		top.OptionalDependencies["@pgqueue/cli-"+platform] = version
		if postgres != "" {
			top.OptionalDependencies["@embedded-postgres/"+postgres] = postgresVersion
		}
		if err := writePlatform(root, filepath.Join(folder, "cli-"+platform), version, platform, program); err != nil {
			return err
		}
	}
	return writePackage(filepath.Join(folder, "pgqueue"), top, []copied{
		{filepath.Join(root, "deploy", "npm", "pgqueue.js"), "bin/pgqueue.js", 0o755},
		{filepath.Join(root, "deploy", "npm", "README.md"), "README.md", 0o644},
		{filepath.Join(root, "LICENSE"), "LICENSE", 0o644},
	})
}

// writePlatform writes the package with the program of one platform.
func writePlatform(root, folder, version, platform, program string) error {
	name := "pgqueue"
	system, cpu, _ := strings.Cut(platform, "-")
	if system == "win32" {
		name += ".exe"
	}
	d := base("@pgqueue/cli-"+platform, version)
	d.OS, d.CPU = []string{system}, []string{cpu}
	return writePackage(folder, d, []copied{{program, "bin/" + name, 0o755}, {filepath.Join(root, "LICENSE"), "LICENSE", 0o644}})
}

// base returns the fields that all packages share.
func base(name, version string) description {
	return description{
		Name: name, Version: version, Description: "Task queue on PostgreSQL: server, worker and command line",
		License: "Apache-2.0", Homepage: "https://github.com/pgqueue/pgqueue", Files: []string{"bin"},
	}
}

// copied is a file of a package.
type copied struct {
	from, to string
	mode     os.FileMode
}

// writePackage writes a folder anew.
func writePackage(folder string, d description, files []copied) error {
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	for _, file := range files {
		if err := copyFile(file.from, filepath.Join(folder, file.to), file.mode); err != nil {
			return err
		}
	}
	text, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, "package.json"), slices.Concat(text, []byte("\n")), 0o600)
}

func copyFile(from, to string, mode os.FileMode) (err error) {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	_, err = io.Copy(target, source)
	return err
}
