package migrate

import (
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

func TestReadScripts(t *testing.T) {
	files := func(names ...string) fstest.MapFS {
		fs := fstest.MapFS{}
		for _, name := range names {
			fs["migrations/"+name] = &fstest.MapFile{Data: []byte("select '" + name + "';\n")}
		}
		return fs
	}
	for _, c := range []struct{ name, want, files string }{
		{"both directions of each version, in order", "", "0002_b.up.sql 0002_b.down.sql 0001_a.up.sql 0001_a.down.sql"},
		{"a missing direction is an error", "lacks a direction", "0001_a.up.sql"},
		{"a gap is an error", "migration 1 is missing", "0002_a.up.sql 0002_a.down.sql"},
		{"two names of one version are an error", "two names", "0001_a.up.sql 0001_b.down.sql"},
		{"a name without a number is an error", "is not called", "a.up.sql"},
		{"a number of another length is an error", "is not called", "1_a.up.sql"},
		{"a file without a direction is an error", "is not called", "0001_a.sql"},
		{"version 0 is an error", "is not called", "0000_a.up.sql"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := readScripts(files(strings.Fields(c.files)...))
			if c.want == "" {
				if err != nil || len(got) != 2 || got[0].name != "a" || got[1].version != 2 || got[0].checksum == got[1].checksum {
					t.Fatalf("%+v, %v", got, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want %q", err, c.want)
			}
		})
	}
	for _, c := range []struct {
		name, head, want string
		from             int
	}{
		{"a migration that says nothing is for all older programs", "", "", 1},
		{"a migration may say from which programs on it is", "-- compatible from: 2\n", "", 2},
		{"it cannot ask for programs newer than itself", "-- compatible from: 3\n", "must be 1 to 2", 0},
		{"it cannot ask for programs of no version", "-- compatible from: 0\n", "must be 1 to 2", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := files("0001_a.up.sql", "0001_a.down.sql", "0002_b.up.sql", "0002_b.down.sql")
			fs["migrations/0002_b.up.sql"].Data = []byte("-- What it does.\n" + c.head + "select 1;\n")
			got, err := readScripts(fs)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("error %v, want %q", err, c.want)
				}
				return
			}
			if err != nil || got[0].compatibleFrom != 1 || got[1].compatibleFrom != c.from {
				t.Fatalf("%+v, %v", got, err)
			}
		})
	}
	t.Run("turned line ends do not change a checksum, anything else does", func(t *testing.T) {
		sum := func(text string) string {
			got, err := readScripts(fstest.MapFS{
				"migrations/0001_a.up.sql":   &fstest.MapFile{Data: []byte(text)},
				"migrations/0001_a.down.sql": &fstest.MapFile{Data: []byte("x")},
			})
			if err != nil {
				t.Fatal(err)
			}
			return got[0].checksum
		}
		if sum("a;\nb;\n") != sum("a;\r\nb;\r\n") || sum("a;\nb;\n") == sum("a;\nc;\n") {
			t.Error("checksums are wrong")
		}
	})
}

// TestCodesOfFunctions: an error of class P0 of PostgreSQL comes from code that an operator has added, as the table of codes in
// package txn says. So each raise of a migration has a code of class PQ, and nothing raises a code of class P0 by itself.
func TestCodesOfFunctions(t *testing.T) {
	raise := regexp.MustCompile(`(?is)\braise\s+(\w+)([^;]*)`)
	own := regexp.MustCompile(`(?i)^\s*using errcode\s*=\s*(case when [^;]*? then )?'PQ`)
	implicit := regexp.MustCompile(`(?i)\binto\s+strict\b|\bassert\b`)

	files, err := migrationFiles.ReadDir("migrations")
	if err != nil {
		t.Fatal(err)
	}
	raises := 0
	for _, file := range files {
		name := file.Name()
		text, err := migrationFiles.ReadFile("migrations/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range raise.FindAllStringSubmatch(string(text), -1) {
			raises++
			if found[1] == "exception" && !own.MatchString(found[2]) {
				t.Errorf("%s: must raise a code of class PQ, got %q", name, found[0])
			}
		}
		if found := implicit.FindString(string(text)); found != "" {
			t.Errorf("%s: must not have %q, which raises a code of class P0", name, found)
		}
	}
	if raises < 20 {
		t.Errorf("%d raises were found", raises)
	}
}
