package embedded

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// minMajor is the oldest supported major version of PostgreSQL.
const minMajor = 14

// probeTimeout limits a command that prints a version or a folder.
const probeTimeout = 15 * time.Second

// places are the folders to search for binaries, in this order.
type places struct {
	// path is a list of folders as in PATH. It also serves the search for pg_config.
	path string
	// globs are patterns of folders. The newest version of each pattern comes first.
	globs []string
	// fetched is the folder of binaries that earlier runs downloaded.
	fetched string
}

// defaultPlaces returns PATH, the usual folders of package managers and the download folder.
func defaultPlaces() places {
	p := places{
		path: os.Getenv("PATH"),
		globs: []string{
			"/usr/lib/postgresql/*/bin",   // Debian, Ubuntu
			"/usr/pgsql-*/bin",            // Red Hat, from the PostgreSQL project
			"/usr/libexec/postgresql*",    // Alpine
			"/usr/lib/postgresql*/bin",    // SUSE
			"/usr/lib64/postgresql-*/bin", // Gentoo
			"/usr/bin",                    // Red Hat, Arch
			"/opt/homebrew/opt/postgresql@*/bin",
			"/opt/homebrew/opt/postgresql/bin",
			"/usr/local/opt/postgresql@*/bin",
			"/usr/local/opt/postgresql/bin",
			"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
			"/Applications/Postgres.app/Contents/Versions/*/bin",
			"/opt/local/lib/postgresql*/bin", // MacPorts
			"/usr/local/pgsql/bin",           // built from source
			"/usr/local/bin",                 // BSD
		},
	}

	if base, err := findDataHome(); err == nil {
		p.fetched = filepath.Join(base, "pgqueue", "binaries")
	}
	return p
}

// folders yields each folder that holds both postgres and initdb once.
func (p places) folders(ctx context.Context) iter.Seq[string] {
	return func(yield func(string) bool) {
		seen := map[string]bool{}
		try := func(dir string) bool {
			// Links lead to one folder by several names, and a probe of each costs a process.
			if !holdsServer(dir) || seen[realPath(dir)] {
				return true
			}
			seen[realPath(dir)] = true
			return yield(dir)
		}

		path := filepath.SplitList(p.path)
		for _, dir := range path {
			if !try(dir) {
				return
			}
			// A single link to postgres shows the folder of the other programs.
			if target, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres")); err == nil {
				if !try(filepath.Dir(target)) {
					return
				}
			}
		}

		// Package managers that link no server program still put pg_config into PATH.
		for _, dir := range path {
			if bin, ok := pgConfigBinDir(ctx, filepath.Join(dir, "pg_config")); ok && !try(bin) {
				return
			}
		}

		globs := p.globs
		if p.fetched != "" {
			globs = append(slices.Clone(globs), filepath.Join(p.fetched, "*", "bin"))
		}

		for _, pattern := range globs {
			matches, _ := filepath.Glob(pattern) // cannot fail: the patterns are constants
			newestFirst(matches)
			for _, dir := range matches {
				if !try(dir) {
					return
				}
			}
		}
	}
}

// holdsServer reports whether the absolute folder dir has the two programs that this package runs.
func holdsServer(dir string) bool {
	if !filepath.IsAbs(dir) {
		return false // a relative PATH entry would run the programs of any working folder
	}

	for _, name := range []string{"postgres", "initdb"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}

// realPath returns dir with links resolved, or dir itself where that fails.
func realPath(dir string) string {
	if p, err := filepath.EvalSymlinks(dir); err == nil {
		return p
	}
	return dir
}

// pgConfigBinDir returns the folder of binaries that the program pgConfig prints.
func pgConfigBinDir(ctx context.Context, pgConfig string) (string, bool) {
	if info, err := os.Stat(pgConfig); !filepath.IsAbs(pgConfig) || err != nil || info.IsDir() {
		return "", false
	}

	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, pgConfig, "--bindir")
	// A child that keeps the pipe open must not hold up the start.
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err == nil
}

var digits = regexp.MustCompile(`\d+`)

// newestFirst sorts folders by the numbers in their own name, largest first; names of parents do not count. So 18.10
// comes before 18.3 and 9.6, and a name without numbers, such as "latest", comes before all.
func newestFirst(dirs []string) {
	version := func(dir string) []int {
		name := strings.TrimSuffix(dir, string(filepath.Separator)+"bin")
		var numbers []int
		for _, d := range digits.FindAllString(filepath.Base(name), -1) {
			n, err := strconv.Atoi(d)
			if err != nil {
				continue // too long for a version
			}
			numbers = append(numbers, n)
		}

		if numbers == nil {
			return []int{1 << 30}
		}
		return numbers
	}

	slices.SortStableFunc(dirs, func(a, b string) int { return slices.Compare(version(b), version(a)) })
}

// install is a folder of binaries with its major version.
type install struct {
	dir   string
	major int
}

// findInstall returns the binaries of major version want. With want 0 it accepts any version from minMajor on.
func (c *config) findInstall(ctx context.Context, f *folder, want int) (install, error) {
	if c.binDir != "" {
		return c.useBinDir(ctx, f, want)
	}

	var (
		skipped []string // reasons against the folders
		others  []string // usable folders of another major version
	)

	for dir := range c.places.folders(ctx) {
		found, err := probeInstall(ctx, f, dir)
		switch {
		case ctx.Err() != nil:
			return install{}, fmt.Errorf("embedded: searching PostgreSQL: %w", context.Cause(ctx))
		case err != nil:
			skipped = append(skipped, err.Error())
		case found.major < minMajor:
			skipped = append(skipped, fmt.Sprintf("%s is PostgreSQL %d", dir, found.major))
		case want != 0 && found.major != want:
			others = append(others, fmt.Sprintf("%d in %s", found.major, dir))
		default:
			return found, nil
		}
	}

	// Other versions are installed, so the missing version is the fault; a download would hide it.
	if len(others) > 0 {
		return install{}, majorError(f, want, strings.Join(others, ", "))
	}

	why := "nothing in PATH, from pg_config or in the usual folders"
	if len(skipped) > 0 {
		why = "not used: " + strings.Join(skipped, "; ")
	}

	const advice = "install PostgreSQL 14 or newer (Debian, Ubuntu: apt install postgresql; Red Hat: dnf install postgresql-server; " +
		"macOS: brew install postgresql), put the folder of its binaries into PATH, or use a server that runs already"
	if c.fetch == nil || c.places.fetched == "" {
		return install{}, fmt.Errorf("embedded: %w (%s): %s", ErrNotFound, why, advice)
	}

	c.logger.InfoContext(ctx, "no PostgreSQL on this machine, fetching one (once)", "folder", c.places.fetched)
	found, err := c.fetchInstall(ctx, f, want)
	if err != nil {
		return install{}, fmt.Errorf("embedded: %w (%s), and fetching one failed (%s): %s",
			errors.Join(ErrNotFound), why, oneLine(err.Error()), advice)
	}
	return found, nil
}

// fetchInstall downloads binaries and checks their version.
func (c *config) fetchInstall(ctx context.Context, f *folder, want int) (install, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	dir, err := c.fetch(ctx, want, c.places.fetched)
	if err != nil {
		return install{}, err
	}

	found, err := probeInstall(ctx, f, dir)
	if err != nil {
		return install{}, err
	}

	if want != 0 && found.major != want {
		return install{}, fmt.Errorf("got PostgreSQL %d instead of %d", found.major, want)
	}
	return found, nil
}

// useBinDir checks the binaries in the folder of WithBinDir.
func (c *config) useBinDir(ctx context.Context, f *folder, want int) (install, error) {
	dir, err := filepath.Abs(c.binDir)
	if err != nil {
		return install{}, fmt.Errorf("embedded: folder of binaries: %w", err)
	}

	if !holdsServer(dir) {
		return install{}, fmt.Errorf("embedded: %w: %s does not hold the programs postgres and initdb: "+
			"name the bin folder of a PostgreSQL server", ErrNotFound, dir)
	}

	found, err := probeInstall(ctx, f, dir)
	switch {
	case err != nil:
		return install{}, fmt.Errorf("embedded: %w: %w", ErrNotFound, err)
	case found.major < minMajor:
		return install{}, fmt.Errorf("embedded: %w: %s is PostgreSQL %d: use %d or newer", ErrNotFound, dir, found.major, minMajor)
	case want != 0 && found.major != want:
		return install{}, majorError(f, want, fmt.Sprintf("%d in %s", found.major, dir))
	}
	return found, nil
}

// majorError returns ErrMajorVersion with the versions and the remedy.
func majorError(f *folder, want int, have string) error {
	return fmt.Errorf("embedded: %w: %s was made by PostgreSQL %d, found %s: "+
		"install PostgreSQL %d, or use another data folder and move the data with pg_dump",
		ErrMajorVersion, f.path, want, have, want)
}

var versionLine = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// probeInstall runs postgres --version as the user that will run the server. So it also detects that this user may not run
// it.
func probeInstall(ctx context.Context, f *folder, dir string) (install, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()

	out, err := runCommand(f.command(ctx, filepath.Join(dir, "postgres"), "--version"), "")
	if errors.Is(err, os.ErrPermission) {
		return install{}, fmt.Errorf("%s: user %s may not run it", dir, f.account.name)
	}
	if err != nil {
		return install{}, fmt.Errorf("%s: postgres --version: %w", dir, err)
	}

	m := versionLine.FindStringSubmatch(out)
	if m == nil {
		return install{}, fmt.Errorf("%s: postgres --version printed %q", dir, oneLine(out))
	}

	major, err := strconv.Atoi(m[1])
	if err != nil {
		return install{}, fmt.Errorf("%s: postgres --version: %w", dir, err)
	}
	return install{dir: dir, major: major}, nil
}
