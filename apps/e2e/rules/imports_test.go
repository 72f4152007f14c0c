// Package rules_test holds the workspace to the rules that no compiler checks.
package rules_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// prefix is what every package of ours starts with. Patterns leave it out: "domain/queue" is one package, "domain/..."
// that folder and all below it.
const prefix = "github.com/pgqueue/pgqueue/"

// A pattern can also name these groups.
const (
	std        = "std"         // the standard library
	thirdParty = "third party" // whatever go.mod brings, as go.mod is reviewed
	same       = "same module"
)

// rule says what packages may import. A package may import what all the rules that name it allow.
type rule struct {
	who    string
	except []string // packages that the pattern would name

	may       []string // when set, nothing else
	testsMay  []string // and this in tests; nil means tests may no more than the rest
	never     []string // outside tests
	testsToo  bool     // never means tests too
	otherwise string   // what would go wrong
}

// rules follow docs/architecture: the domain in the middle imports none of the others, adapters store, transports serve
// and call, apps put them together.
var rules = []rule{
	{
		who: "domain/...", may: []string{std, "domain/..."},
		otherwise: "an importer of the domain gets its dependencies; it has none",
	},
	{
		who: "domain/queue", never: []string{"domain/manager", "domain/worker", "domain/queuetest"},
		otherwise: "nouns, rules and ports are below their users",
	},
	{
		who: "domain/queue", never: []string{"net/...", "os/...", "database/sql/...", "log/..."},
		otherwise: "nouns, rules and ports do no input and output: that is behind a port",
	},
	{
		who: "domain/schedule", never: []string{"net/...", "os/...", "database/sql/...", "log/..."},
		otherwise: "when something is due follows from the schedule and the time alone",
	},
	{
		who: "domain/worker", never: []string{"domain/manager"},
		otherwise: "handlers run over a remote service as over a local one",
	},
	{
		who: "adapters/...", except: []string{"adapters/embedded/...", "adapters/postgres/postgrestest/..."},
		may: []string{std, thirdParty, same, "domain/..."}, testsMay: inTests,
		otherwise: "an adapter that knows another adapter or a transport cannot be replaced alone",
	},
	{
		who: "adapters/embedded/...", may: []string{std, thirdParty, same},
		otherwise: "starting a PostgreSQL has nothing to do with queues, so it is of use without them",
	},
	{
		who: "adapters/postgres/postgrestest/...",
		may: []string{std, thirdParty, same, "domain/...", "adapters/postgres", "adapters/cells", "adapters/sqltx", "adapters/embedded", "adapters/memory"},
		otherwise: "it is the place where the adapter meets a real database and the executable specification, " +
			"and more would make it end-to-end",
	},
	{
		who:       "adapters/sqltx/...",
		never:     []string{thirdParty},
		otherwise: "it is for programs with any driver, and must not bring one along",
	},
	{
		who:       "adapters/memory/...",
		never:     []string{thirdParty},
		otherwise: "the executable specification is to be read without knowing any library",
	},
	{
		who: "adapters/oidc/...", may: []string{std, thirdParty, same, "domain/access", "domain/queue"},
		otherwise: "it proves identities and knows nothing of tasks",
	},
	{
		who: "adapters/jsonschema/...", may: []string{std, thirdParty, same, "domain/schema", "domain/queue"},
		otherwise: "it checks bytes against bytes and knows nothing of tasks",
	},
	{
		who: "...", except: []string{"adapters/jsonschema/..."}, never: []string{"github.com/santhosh-tekuri/jsonschema/..."},
		otherwise: "the library has ways to read files and to panic, which one place closes",
	},
	{
		who: "domain/schema", may: []string{std, "domain/queue"},
		otherwise: "the port to a library knows the words of the queue alone",
	},
	{
		who: "domain/seal", never: []string{"net/...", "os/...", "database/sql/...", "log/...", "domain/manager"},
		otherwise: "keys come through a port, and sealing works over a remote service as over a local one",
	},
	{
		who: "domain/schema", never: []string{"net/...", "os/...", "database/sql/...", "log/..."},
		otherwise: "nouns, rules and ports do no input and output: that is behind a port",
	},
	{
		who: "...", except: []string{"adapters/oidc/..."}, never: []string{"github.com/go-jose/..."},
		otherwise: "the signatures of JWTs are checked in one place",
	},
	{
		who: "transport/...", may: []string{std, thirdParty, same, "domain/..."}, testsMay: inTests,
		otherwise: "a transport that knows an adapter cannot be put over another; one that knows a transport goes with it",
	},
	{
		who: "transport/httpaccess/...", may: []string{std, "domain/..."},
		otherwise: "what guards the port is to be read without knowing any library",
	},
	{
		who: "transport/web/...", may: []string{std, same},
		otherwise: "the page calls the API as any client does, so its server knows nothing of tasks and rights",
	},
	{
		who: "transport/rest/restapi/...", may: []string{std, "domain/..."},
		otherwise: "the client shares the wire types, and must not bring the server's framework along",
	},
	{
		who: "transport/connect/gen/...", never: []string{"domain/..."},
		otherwise: "messages are the wire's: one package translates them to the domain",
	},
	{
		who: "transport/...", never: []string{"transport/rest/restserver/...", "transport/connect/connectserver/..."},
		except:    []string{"transport/rest/restserver/...", "transport/connect/connectserver/..."},
		otherwise: "a client is linked into users' programs, and the server with its framework is not for them",
	},
	{
		who: "transport/...", except: []string{"transport/rest/restserver/..."},
		never:     []string{"github.com/danielgtaylor/huma/..."},
		otherwise: "the framework of the REST server brings a lot along, so it stays where it is used",
	},
	{
		who: "transport/...", never: []string{"database/sql/...", "github.com/jackc/..."},
		otherwise: "a transport that stores would behave otherwise than the other transports",
	},
	{
		who: "apps/server/...", may: inApps,
		otherwise: "apps share what is below them, not each other",
	},
	{
		who: "apps/worker/...", may: inApps,
		otherwise: "a worker that links the server could not stay small, nor be released by itself",
	},
	{
		who: "apps/cli/...", may: append([]string{"apps/server/run", "apps/worker/run"}, inApps...),
		otherwise: "the command line runs a server inside itself by the exported functions of the server",
	},
	{
		who: "apps/internal/program/...", may: []string{std, thirdParty, same, "domain/...", "adapters/...", "transport/..."},
		otherwise: "the package that all programs share is below them",
	},
	{
		who: "...", except: []string{"domain/queuetest/...", "adapters/oidc/oidctest/...", "adapters/postgres/postgrestest/...", "apps/internal/program/programtest/...", "apps/e2e/..."},
		never:     []string{"testing/...", "adapters/postgres/postgrestest/..."},
		otherwise: "what only tests use would be linked into users' programs",
	},
	{
		who: "...", never: []string{"apps/e2e/..."}, except: []string{"apps/e2e/..."}, testsToo: true,
		otherwise: "it is never released, so its importers could not be released either",
	},
	{
		who: "...", except: []string{"apps/e2e/bench/...", "apps/e2e"},
		never:     []string{"apps/e2e/bench/...", "github.com/riverqueue/...", "github.com/wcharczuk/..."},
		testsToo:  true,
		otherwise: "the peers are there to be measured, and to move from; they and the drawing library stay with the benchmark and its module's tests",
	},
	{
		who: "apps/e2e/...", may: []string{std, thirdParty, "domain/...", "adapters/...", "transport/...", "apps/..."},
		otherwise: "it puts everything together",
	},
}

// inTests is what tests below the apps may import beside what the code they test may.
var inTests = []string{"adapters/memory"}

// inApps is what an app may import; each adds what it needs of other apps.
var inApps = []string{std, thirdParty, same, "domain/...", "adapters/...", "transport/...", "apps/internal/program/..."}

// pkg is one package in the output of go list.
type pkg struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
	Module                             struct{ Path string }
}

func TestImports(t *testing.T) {
	for _, problem := range check(rules, listPackages(t)) {
		t.Error(problem)
	}
}

// listPackages asks for every package of the workspace, also when the test runs outside of it. A package that does not
// build is listed all the same: the compiler says so better.
func listPackages(t *testing.T) []pkg {
	t.Helper()
	work, err := filepath.Abs("../../../go.work")
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), "go", "list", "-e",
		"-json=ImportPath,Imports,TestImports,XTestImports,Module", "work")
	command.Env = append(os.Environ(), "GOWORK="+work)
	var complaints bytes.Buffer
	command.Stderr = &complaints
	output, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &complaints)
	}
	var packages []pkg
	for decoder := json.NewDecoder(bytes.NewReader(output)); ; {
		var p pkg
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// check lists what breaks the rules, and rules that say nothing about any package any more.
func check(rules []rule, packages []pkg) []string {
	problems := checkRules(rules, packages)
	for _, p := range packages {
		governed := false
		for _, r := range rules {
			if !r.names(p.ImportPath) {
				continue
			}
			governed = governed || r.may != nil
			for _, imported := range p.Imports {
				if r.forbids(p, imported, false) {
					problems = append(problems, fmt.Sprintf("%s imports %s: %s", p.ImportPath, imported, r.otherwise))
				}
			}
			for _, imported := range slices.Concat(p.TestImports, p.XTestImports) {
				if r.forbids(p, imported, true) {
					problems = append(problems, fmt.Sprintf("a test of %s imports %s: %s", p.ImportPath, imported, r.otherwise))
				}
			}
		}
		if !governed {
			problems = append(problems, fmt.Sprintf("no rule says what %s may import", p.ImportPath))
		}
		problems = append(problems, checkInternal(p, packages)...)
	}
	return problems
}

// checkRules finds patterns that name no package: a folder was renamed, and the rule would guard nothing.
func checkRules(rules []rule, packages []pkg) []string {
	var problems []string
	for _, r := range rules {
		patterns := slices.Concat([]string{r.who}, r.except, r.may, r.testsMay, r.never)
		for _, pattern := range patterns {
			top, _, _ := strings.Cut(pattern, "/")
			ours := slices.Contains([]string{"domain", "adapters", "transport", "apps"}, top)
			if ours && !slices.ContainsFunc(packages, func(p pkg) bool { return match(pattern, p.ImportPath, "") }) {
				problems = append(problems, fmt.Sprintf("the rule for %s names %s, which does not exist", r.who, pattern))
			}
		}
		if r.otherwise == "" {
			problems = append(problems, fmt.Sprintf("the rule for %s has no reason", r.who))
		}
	}
	return problems
}

// checkInternal keeps modules out of each other's internal packages, which the compiler does only for modules that do
// not nest: a user can have one of the two at another version. A module that is internal as a whole, as
// apps/internal/program, is made for the modules beside it.
func checkInternal(p pkg, packages []pkg) []string {
	var problems []string
	for _, imported := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
		if !strings.HasPrefix(imported, prefix) || !slices.Contains(strings.Split(imported, "/"), "internal") {
			continue
		}
		at := slices.IndexFunc(packages, func(other pkg) bool { return other.ImportPath == imported })
		if at >= 0 && packages[at].Module.Path != p.Module.Path && !slices.Contains(strings.Split(packages[at].Module.Path, "/"), "internal") {
			problems = append(problems, fmt.Sprintf("%s imports %s, which is internal to another module", p.ImportPath, imported))
		}
	}
	return problems
}

func (r rule) names(path string) bool {
	matches := func(pattern string) bool { return match(pattern, path, "") }
	return matches(r.who) && !slices.ContainsFunc(r.except, matches)
}

func (r rule) forbids(p pkg, imported string, test bool) bool {
	matches := func(pattern string) bool { return match(pattern, imported, p.Module.Path) }
	// A test beside the package imports that package; so do the tests in a package of their own.
	if test && imported == p.ImportPath {
		return false
	}
	if (!test || r.testsToo) && slices.ContainsFunc(r.never, matches) {
		return true
	}
	return r.may != nil && !slices.ContainsFunc(r.may, matches) && !(test && slices.ContainsFunc(r.testsMay, matches))
}

// match reports whether a pattern names a package, seen from a module.
func match(pattern, path, module string) bool {
	first, _, _ := strings.Cut(path, "/")
	own, ours := strings.CutPrefix(path, prefix)
	switch pattern {
	case std:
		return !strings.Contains(first, ".")
	case thirdParty:
		return strings.Contains(first, ".") && !ours
	case same:
		return path == module || strings.HasPrefix(path, module+"/")
	case "...":
		return ours
	}
	if ours {
		path = own
	}
	folder, below := strings.CutSuffix(pattern, "/...")
	return path == folder || (below && strings.HasPrefix(path, folder+"/"))
}

// TestDomainRequiresNothing reads go.mod, because an import in a file for another system shows in no list.
func TestDomainRequiresNothing(t *testing.T) {
	command := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json", "../../../domain/go.mod")
	output, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Require, Replace, Tool []any }
	if err := json.Unmarshal(output, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Require)+len(file.Replace)+len(file.Tool) > 0 {
		t.Errorf("domain/go.mod has more than its name and its go line:\n%s", output)
	}
}

// TestRulesCanFail breaks each kind of rule once.
func TestRulesCanFail(t *testing.T) {
	of := func(module, path string, imports ...string) pkg {
		p := pkg{ImportPath: prefix + path, Imports: imports}
		p.Module.Path = prefix + module
		return p
	}
	tested := func(p pkg, imports ...string) pkg {
		p.TestImports = imports[:1]
		p.XTestImports = imports[1:]
		return p
	}
	all := rule{who: "...", may: []string{std, thirdParty, same, "..."}, otherwise: "w"}
	a := of("adapters/a", "adapters/a")
	for _, test := range []struct {
		name     string
		rules    []rule
		packages []pkg
		want     []string
	}{
		{
			"may",
			[]rule{{who: "adapters/...", may: []string{std, same}, otherwise: "w"}},
			[]pkg{of("adapters/a", "adapters/a", "os", "example.com/x", prefix+"adapters/a/b", prefix+"adapters/ab")},
			[]string{prefix + "adapters/a imports example.com/x: w", prefix + "adapters/a imports " + prefix + "adapters/ab: w"},
		},
		{
			"may in tests",
			[]rule{{who: "adapters/...", may: []string{std}, testsMay: []string{thirdParty}, otherwise: "w"}},
			[]pkg{tested(a, "example.com/x", prefix+"adapters/a", prefix+"adapters/b")},
			[]string{"a test of " + prefix + "adapters/a imports " + prefix + "adapters/b: w"},
		},
		{
			"never",
			[]rule{all, {who: "adapters/a", never: []string{"net/..."}, otherwise: "w"}},
			[]pkg{tested(of("adapters/a", "adapters/a", "net", "network"), "net", "net"), of("adapters/a", "adapters/a/b", "net")},
			[]string{prefix + "adapters/a imports net: w"},
		},
		{
			"never in tests either",
			[]rule{all, {who: "adapters/a", never: []string{"net/http"}, testsToo: true, otherwise: "w"}},
			[]pkg{tested(a, "net", "net/http")},
			[]string{"a test of " + prefix + "adapters/a imports net/http: w"},
		},
		{
			"an exception",
			[]rule{all, {who: "...", except: []string{"adapters/a"}, never: []string{"net"}, otherwise: "w"}},
			[]pkg{of("adapters/a", "adapters/a", "net"), of("adapters/b", "adapters/b", "net")},
			[]string{prefix + "adapters/b imports net: w"},
		},
		{
			"no rule",
			[]rule{{who: "adapters/a", never: []string{"net"}, otherwise: "w"}},
			[]pkg{a},
			[]string{"no rule says what " + prefix + "adapters/a may import"},
		},
		{
			"another module's internal package",
			[]rule{all},
			[]pkg{of("adapters/a", "adapters/a/internal/i"), of("adapters/a/n", "adapters/a/n", prefix+"adapters/a/internal/i")},
			[]string{prefix + "adapters/a/n imports " + prefix + "adapters/a/internal/i, which is internal to another module"},
		},
		{
			"a rule for no package, without a reason",
			[]rule{all, {who: "adapters/b", never: []string{"domain/..."}}},
			[]pkg{a},
			[]string{
				"the rule for adapters/b names adapters/b, which does not exist",
				"the rule for adapters/b names domain/..., which does not exist",
				"the rule for adapters/b has no reason",
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := check(test.rules, test.packages); !slices.Equal(got, test.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}
