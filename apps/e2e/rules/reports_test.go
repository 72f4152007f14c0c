package rules_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// fieldReports is a file with a table; its last column names the test that holds each report.
const fieldReports = "docs/field-reports.md"

var (
	goFileName   = regexp.MustCompile(`[\w./-]+\.go\b`)
	testName     = regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w*`)
	fileOrTest   = regexp.MustCompile(goFileName.String() + `|` + testName.String())
	quotedPhrase = regexp.MustCompile(`"([^"]+)"`)
)

// goFiles maps the path of every Go file of the tree, from its root, to its text.
type goFiles map[string]string

// TestFieldReportsNameTests checks that every file, test and sub-test that the table of field reports names exists.
func TestFieldReportsNameTests(t *testing.T) {
	const root = "../../.."
	files := readGoFiles(t, root)

	reports, err := os.ReadFile(filepath.Join(root, fieldReports))
	if err != nil {
		t.Fatal(err)
	}

	rows := 0
	for line := range strings.Lines(string(reports)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "|") || len(cells) != 6 || strings.HasPrefix(cells[0], "---") || strings.TrimSpace(cells[5]) == "test" {
			continue
		}
		rows++
		for _, fault := range files.checkTestCell(cells[5]) {
			t.Errorf("%s, row %s: %s", fieldReports, strings.TrimSpace(cells[0]), fault)
		}
		if !files.nameTest(cells[5]) {
			t.Errorf("%s, row %s: must name a test, got %q", fieldReports, strings.TrimSpace(cells[0]), strings.TrimSpace(cells[5]))
		}
	}
	if rows < 100 {
		t.Fatalf("%s: only %d rows were found", fieldReports, rows)
	}
}

// TestHitRateOfTheHunt compares the counts in the text with the rows of the reports that we found.
func TestHitRateOfTheHunt(t *testing.T) {
	reports, err := os.ReadFile(filepath.Join("..", "..", "..", fieldReports))
	if err != nil {
		t.Fatal(err)
	}

	outcomes := map[string]int{}
	for line := range strings.Lines(string(reports)) {
		if cells := strings.Split(line, "|"); len(cells) == 8 && (strings.HasPrefix(line, "| H-") || strings.HasPrefix(line, "| X-")) {
			word := regexp.MustCompile(`^(failed|partly|held)`).FindString(strings.TrimSpace(cells[4]))
			outcomes[word]++
		}
	}

	failed, partly, held := outcomes["failed"], outcomes["partly"], outcomes["held"]
	total := failed + partly + held
	plain := strings.Join(strings.Fields(string(reports)), " ")
	for _, want := range []string{
		fmt.Sprintf("are %d reports that we found", total),
		fmt.Sprintf("**%d failed, %d failed in part, %d held**, a hit rate of %d %%", failed, partly, held, (100*(failed+partly)+total/2)/total),
	} {
		if !strings.Contains(plain, want) || outcomes[""] > 0 {
			t.Errorf("%s must say %q; rows without an outcome: %d", fieldReports, want, outcomes[""])
		}
	}
}

// TestCheckTestCell shows that the check of a cell finds each kind of name that does not resolve.
func TestCheckTestCell(t *testing.T) {
	files := goFiles{
		"a/list_test.go": "func TestList(t *testing.T) {\n\tt.Run(\"a page ends early\", nil)\n",
		"b/other.go":     "func TestElsewhere(t *testing.T) {",
	}
	for cell, faults := range map[string]int{
		`a/list_test.go: TestList`:                              0,
		`list_test.go: "a page ends…", TestList/a page; held`:   0,
		`b: TestElsewhere`:                                      0,
		`list_test.go: TestElsewhere`:                           1,
		`gone_test.go: TestList`:                                1,
		`TestGone`:                                              1,
		`t_test.go`:                                             1,
		`list_test.go: "a page that no test names"`:             1,
		`list_test.go: TestList; list_test.go, TestLis; x: Te.`: 1,
	} {
		if got := files.checkTestCell(cell); len(got) != faults {
			t.Errorf("%q: %d faults, want %d: %v", cell, len(got), faults, got)
		}
	}
}

// nameTest reports whether a cell names a test, a file of tests, a sub-test in quotes, a file of the suites, or the row above or
// another by "same" or "as". Product code does not count.
func (files goFiles) nameTest(cell string) bool {
	cell = strings.TrimSpace(cell)
	if testName.MatchString(cell) || quotedPhrase.MatchString(cell) || strings.Contains(cell, "_test.go") || strings.Contains(cell, ".txtar") ||
		strings.HasPrefix(cell, "same") || strings.HasPrefix(cell, "as ") {
		return true
	}
	for _, name := range goFileName.FindAllString(cell, -1) {
		for path := range files.endingWith(name) {
			if strings.HasPrefix(path, "domain/queuetest/") {
				return true
			}
		}
	}
	return false
}

// TestNameTest shows that product code does not count.
func TestNameTest(t *testing.T) {
	files := goFiles{"domain/queuetest/lease.go": "", "adapters/embedded/folder.go": "", "a/b_test.go": ""}
	for cell, want := range map[string]bool{
		"a/b_test.go": true, "TestList": true, `"a page ends early"`: true, "domain/queuetest/lease.go": true, "lease.go: a sentence": true,
		"same": true, "as R1-18": true, "adapters/embedded/folder.go": false, "": false, "by hand": false,
	} {
		if got := files.nameTest(cell); got != want {
			t.Errorf("%q: %v, want %v", cell, got, want)
		}
	}
}

// readGoFiles reads the Go files below root.
func readGoFiles(t *testing.T, root string) goFiles {
	t.Helper()
	files := goFiles{}
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "node_modules"):
			return filepath.SkipDir
		case filepath.Ext(path) != ".go", entry.Name() == "reports_test.go": // its own examples prove nothing
			return nil
		}

		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		files[filepath.ToSlash(name)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// checkTestCell returns the names of a cell that do not resolve. A test belongs to the file named last before it in the same
// part of the cell; parts end with a semicolon. A test without a file, and the phrase of a sub-test in quotes, may be anywhere
// in the tree.
func (files goFiles) checkTestCell(cell string) []string {
	var faults []string
	for part := range strings.SplitSeq(cell, ";") {
		among, file := files, "the tree"
		for _, name := range fileOrTest.FindAllString(part, -1) {
			if goFileName.MatchString(name) {
				among, file = files.endingWith(name), name
				if len(among) == 0 {
					faults = append(faults, "there is no file "+name)
					break
				}
				continue
			}
			if !among.contain("func " + name + "(") {
				faults = append(faults, "there is no "+name+" in "+file)
			}
		}

		for _, quoted := range quotedPhrase.FindAllStringSubmatch(part, -1) {
			phrase := strings.TrimSuffix(quoted[1], "…")
			if !files.contain(phrase) {
				faults = append(faults, "there is no \""+phrase+"\" in the tree")
			}
		}
	}
	return slices.Compact(faults)
}

// endingWith returns the files with that name, or with a path that ends with it.
func (files goFiles) endingWith(name string) goFiles {
	found := goFiles{}
	for path, text := range files {
		if path == name || strings.HasSuffix(path, "/"+name) {
			found[path] = text
		}
	}
	return found
}

// contain says whether one of the files has the text.
func (files goFiles) contain(text string) bool {
	for _, body := range files {
		if strings.Contains(body, text) {
			return true
		}
	}
	return false
}
