package jsonschema_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "github.com/google/jsonschema-go/jsonschema" // its module brings the files of the suite

	"github.com/pgqueue/pgqueue/adapters/jsonschema"
	"github.com/pgqueue/pgqueue/domain/schema"
)

// outwardSchemas are the schemas of the official suite that refer outward, which the adapter refuses, by file. Every schema
// of refRemote.json does.
var outwardSchemas = map[string][]string{
	"dynamicRef.json": {
		"$ref and $dynamicAnchor are independent of order - $defs first",
		"$ref and $dynamicAnchor are independent of order - $ref first",
		"$ref to $dynamicRef finds detached $dynamicAnchor",
		"strict-tree schema, guards against misspelled properties",
		"tests for implementation dynamic anchor and reference link",
	},
	"refRemote.json": {
		"$ref to $ref finds detached $anchor",
		"Location-independent identifier in remote ref",
		"anchor within remote ref",
		"base URI change",
		"base URI change - change folder",
		"base URI change - change folder in subschema",
		"fragment within remote ref",
		"ref within remote ref",
		"remote HTTP ref with different $id",
		"remote HTTP ref with different URN $id",
		"remote HTTP ref with nested absolute ref",
		"remote ref",
		"remote ref with ref to defs",
		"retrieved nested refs resolve relative to their URI not $id",
		"root ref in remote ref",
	},
}

// suiteGroup is a schema of the suite with its tests.
type suiteGroup struct {
	Description string
	Schema      json.RawMessage
	Tests       []struct {
		Description string
		Data        json.RawMessage
		Valid       bool
	}
}

// TestOfficialSuite runs the official JSON Schema test suite for 2020-12. The module of another implementation brings its files
// along, without content.json, format.json and vocabulary.json: contents and formats are annotations here, and meta-schemas
// of one's own are refused.
func TestOfficialSuite(t *testing.T) {
	command := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/jsonschema-go")
	out, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "jsonschema", "testdata", "draft2020-12", "*.json"))
	if err != nil || len(files) < 40 {
		t.Fatalf("%d files, %v", len(files), err)
	}

	compiler := jsonschema.NewCompiler()
	run := 0
	for _, file := range files {
		name := filepath.Base(file)
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var groups []suiteGroup
		if err := json.Unmarshal(b, &groups); err != nil {
			t.Fatal(err)
		}

		var outward []string
		for _, group := range groups {
			s, err := compiler.Compile(t.Context(), group.Schema)
			switch {
			case err == nil:
				run += len(group.Tests)
				runGroup(t, name, s, group)
			case strings.Contains(err.Error(), "must refer to itself and to JSON Schema only"):
				outward = append(outward, group.Description)
			default:
				t.Errorf("%s: %s: %v", name, group.Description, err)
			}
		}
		slices.Sort(outward)
		if !slices.Equal(outward, outwardSchemas[name]) {
			t.Errorf("%s: refused for a reference outward: %q", name, outward)
		}
	}
	if run < 1_000 {
		t.Errorf("only %d tests have run", run)
	}
}

// runGroup runs the tests of a schema. A refused payload has a fault that is listed.
func runGroup(t *testing.T, file string, s schema.Schema, group suiteGroup) {
	t.Helper()
	for _, test := range group.Tests {
		report, err := s.Validate(t.Context(), test.Data)
		if err != nil || report.OK() != test.Valid {
			t.Errorf("%s: %s: %s: got %v, %v, want %v", file, group.Description, test.Description, report, err, test.Valid)
		}
		if !report.OK() && len(report.Faults) == 0 {
			t.Errorf("%s: %s: %s: no fault is listed", file, group.Description, test.Description)
		}
	}
}
