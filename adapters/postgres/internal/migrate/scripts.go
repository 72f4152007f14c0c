package migrate

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// script is one embedded migration, written for the default schema.
type script struct {
	version  int
	name     string
	up, down string
	checksum string // of the text up, because databases must not differ in the tables that it made
	// compatibleFrom is the oldest schema version at which programs still work after the script has run.
	compatibleFrom int
}

// compatibleLine matches the line by which the up direction of a migration excludes older programs. Without the line,
// the migration excludes no program.
var compatibleLine = regexp.MustCompile(`(?m)^-- compatible from: *(\d+)$`)

// scripts returns the migrations of this program in order: version n is scripts()[n-1]. A fault in the embedded files
// is a defect of the program, so it panics.
var scripts = sync.OnceValue(func() []script {
	found, err := readScripts(migrationFiles)
	if err != nil {
		panic(err)
	}
	return found
})

// readScripts reads migrations/NNNN_name.{up,down}.sql. It returns an error unless the versions run from 1 without a
// gap and each version has both directions.
func readScripts(files fs.FS) ([]script, error) {
	paths, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		return nil, err
	}

	byVersion := map[int]*script{}
	for _, path := range paths {
		content, err := fs.ReadFile(files, path)
		if err != nil {
			return nil, err
		}
		version, name, up, err := parseScriptPath(path)
		if err != nil {
			return nil, err
		}

		s := byVersion[version]
		if s == nil {
			s = &script{version: version, name: name}
			byVersion[version] = s
		}
		if s.name != name {
			return nil, fmt.Errorf("migration %d has two names, %s and %s", version, s.name, name)
		}

		// A checkout may have changed the line ends; the checksum of the migration must not depend on them.
		text := strings.ReplaceAll(string(content), "\r\n", "\n")
		if !up {
			s.down = text
		} else if err := s.setUp(text); err != nil {
			return nil, err
		}
	}

	out := slices.SortedFunc(maps.Values(byVersion), func(a, b *script) int { return a.version - b.version })
	all := make([]script, len(out))
	for i, s := range out {
		if s.up == "" || s.down == "" {
			return nil, fmt.Errorf("migration %d %s lacks a direction", s.version, s.name)
		}
		if s.version != i+1 { // the position of a migration must equal its version
			return nil, fmt.Errorf("migration %d is missing", i+1)
		}
		all[i] = *s
	}
	return all, nil
}

// parseScriptPath returns the parts of a path such as migrations/0001_initial.up.sql.
func parseScriptPath(path string) (version int, name string, up bool, err error) {
	base, up := strings.CutSuffix(strings.TrimPrefix(path, "migrations/"), ".up.sql")
	base, down := strings.CutSuffix(base, ".down.sql")
	number, name, named := strings.Cut(base, "_")

	version, err = strconv.Atoi(number)
	if err != nil || up == down || !named || name == "" || len(number) != 4 || version < 1 {
		return 0, "", false, fmt.Errorf("%s is not called NNNN_name.up.sql or NNNN_name.down.sql", path)
	}
	return version, name, up, nil
}

// setUp sets the direction up, with its checksum and the oldest version that it is compatible with.
func (s *script) setUp(text string) (err error) {
	sum := sha256.Sum256([]byte(text))
	s.up, s.checksum, s.compatibleFrom = text, hex.EncodeToString(sum[:]), 1

	if match := compatibleLine.FindStringSubmatch(text); match != nil {
		s.compatibleFrom, err = strconv.Atoi(match[1])
		if err != nil || s.compatibleFrom < 1 || s.compatibleFrom > s.version {
			return fmt.Errorf("migration %d is compatible from %s: must be 1 to %d", s.version, match[1], s.version)
		}
	}
	return nil
}
