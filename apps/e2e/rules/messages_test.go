package rules_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// productFolders hold the code with the messages that reach a user of a program, a wire or the library.
var productFolders = []string{"domain", "adapters", "transport", "apps"}

// silentFolders hold no message that a user can meet.
var silentFolders = map[string]string{
	"adapters/postgres/postgrestest": "helpers of tests",
	"apps/cli/internal/man":          "a step of the build",
	"apps/e2e":                       "tests and the benchmark, which are not released",
	"domain/queuetest":               "suites of tests",
	"transport/connect/gen":          "generated types",
}

// silentErrors are the texts of errors that no user meets.
var silentErrors = map[string]string{
	"enough":          "it ends a stream after the wanted number of events, and the command succeeds",
	"nothing is sent": "it ends a request that only tries whether HTTP can carry the headers",
}

// quietKinds need no remedy in their messages.
var quietKinds = map[string]string{
	"KindInternal": "a defect of pgqueue: the operator reads its cause in the log",
	"KindCanceled": "the caller ended its own call",
	"KindDeadline": "the caller's own deadline passed",
}

// inputKinds blame the input, so their messages give the rule.
var inputKinds = []string{"KindInvalid", "KindTooLarge"}

var (
	// givenValue finds a value of the caller in a message: the text behind "got" up to the remedy.
	givenValue = regexp.MustCompile(`\bgot ([^;]*)`)
	// textVerb finds a verb that prints a text of any length.
	textVerb = regexp.MustCompile(`%(\.64)?[sq]`)
)

// ruleForm is a form of a rule that needs no given value, or no remedy.
type ruleForm struct {
	form *regexp.Regexp
	why  string
}

// rulesWithoutValue are the forms that say everything about the given value, or that must not show it.
var rulesWithoutValue = []ruleForm{
	{regexp.MustCompile(`must (not )?(come|be given|be used|be there) `), "another field is there or absent; the value has no part in it"},
	{regexp.MustCompile(`must (have|be) (one handler|the same)`), "two values differ, or there are two"},
	{regexp.MustCompile(`must (not be (empty|nil)|be absent|be left out|be empty)`), "the rule says which value was given"},
	{regexp.MustCompile(`must not (have|contain|set) |must have no `), "the rule names the part of the value that has to go"},
	{regexp.MustCompile(`must be the cursor of `), "a cursor means nothing to a reader"},
	{regexp.MustCompile(`must be (valid UTF-8|well-formed|visible ASCII|as HTTP can carry)`), "the value would break the line that shows it"},
	{regexp.MustCompile(`must be (whsec_|a PostgreSQL connection string|a URL such as postgres:)`), "the value holds a secret"},
	{regexp.MustCompile(`: %v|^%v; `), "the cause behind the rule shows the value"},
}

// rulesWithRemedy are the forms that name each allowed value, so that the rule is the remedy: the caller gives one of them.
var rulesWithRemedy = []ruleForm{
	{regexp.MustCompile(`must [^,;]*\b(at most|at least|above|from) (%|\d|--)`), "a bound, with its number"},
	{regexp.MustCompile(`must [^,;]*\d+ or more`), "a bound, with its number"},
	{regexp.MustCompile(`must be ([a-z]+, )*[a-z]+ or [a-z]+, got`), "the list of all values"},
	{regexp.MustCompile(`must be (%s|….*), got|must be one of |must be either `), "the list of all values, from a table"},
	{regexp.MustCompile(`must [^;]*\b(such as|as in) `), "an example of the form"},
	{regexp.MustCompile(`must [^;]*('Name: value'|NAME=VALUE)`), "the form itself"},
	{regexp.MustCompile(`must [^;]*(letter|letters)[^;]* '_'`), "the list of all characters"},
	{regexp.MustCompile(`must [^;]*, got (none|nil|nothing|no body|an empty text)`), "the rule names the absent value"},
	{regexp.MustCompile(`got an unknown (field|parameter)`), "the suggestion behind it"},
	{regexp.MustCompile(`must (be given|name each queue|have each setting) once`), "one of the values has to go"},
}

// addsRemedy matches the message of another error with a remedy behind it.
var addsRemedy = regexp.MustCompile(`^((%s|…): )?(%s|%v|…); `)

// isPart reports whether a message of dir is only a part of others: in adapters/embedded a whole one begins with the name.
func isPart(dir string, m message) bool {
	return dir == "adapters/embedded" && m.kind == "" && !strings.HasPrefix(m.text, "embedded: ")
}

// cutters return a text of at most 64 bytes.
var cutters = []string{"Quote", "Shorten", "TruncateText"}

// constructor is a function that makes an error from a message.
type constructor struct {
	kind    string // "" = it wraps other errors, so a message without a verb for them is checked like an input's
	message int    // index of the argument
}

// message is one message in the sources.
type message struct {
	place string
	kind  string
	text  string // with the verbs of its format and "…" for other values
	uncut bool   // it prints a given text in full length
}

// TestMessages holds every message that a user can meet to "field: must be X, got Y; remedy".
func TestMessages(t *testing.T) {
	t.Parallel()

	messages := listMessages(t, filepath.Join("..", "..", ".."))
	if len(messages) < 200 {
		t.Fatalf("%d messages found: the search has lost its constructors", len(messages))
	}
	for _, m := range messages {
		for _, fault := range checkMessage(m) {
			t.Errorf("%s: %q %s", m.place, m.text, fault)
		}
	}
}

func TestCheckMessage(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name    string
		message message
		faults  int
	}{
		{"rule, given value and remedy", message{kind: "KindInvalid", text: "must be a file, got the folder %.64q; name a file"}, 0},
		{"a bound and the given value", message{kind: "KindInvalid", text: "must be at most 5, got %d"}, 0},
		{"the list of values and the given value", message{kind: "KindInvalid", text: "must be skip, once or all, got %.64q"}, 0},
		{"a rule that says which value was given", message{kind: "KindInvalid", text: "must not be empty; leave it out"}, 0},
		{"no remedy", message{kind: "KindInvalid", text: "must be a file, got the folder %.64q"}, 1},
		{"no given value", message{kind: "KindInvalid", text: "must be a file; name a file"}, 1},
		{"rule alone", message{kind: "KindInvalid", text: "must be a file"}, 2},
		{"no rule", message{kind: "KindTooLarge", text: "5 bytes are allowed, got %d; send less"}, 1},
		{"a given text in full length", message{kind: "KindInvalid", text: "must be from 1 to 5, got %q", uncut: true}, 1},
		{"state with a remedy", message{kind: "KindNotFound", text: "no such queue; create it first"}, 0},
		{"state without a remedy", message{kind: "KindNotFound", text: "no such queue"}, 1},
		{"a defect needs none", message{kind: "KindInternal", text: "3 answers for 4 calls"}, 0},
	} {
		if faults := checkMessage(c.message); len(faults) != c.faults {
			t.Errorf("%s: %q", c.name, faults)
		}
	}
}

// checkMessage returns the faults of a message. A message about the input has a rule, the given value and a remedy.
func checkMessage(m message) (faults []string) {
	hasRemedy := strings.Contains(m.text, "; ")
	switch {
	case quietKinds[m.kind] != "":
	case slices.Contains(inputKinds, m.kind):
		if !strings.Contains(m.text, "must ") {
			faults = append(faults, "lacks the rule: must be X")
		}
		if !givenValue.MatchString(m.text) && !matchesForm(m.text, rulesWithoutValue) {
			faults = append(faults, "lacks the given value: must be X, got Y; remedy")
		}
		if !hasRemedy && !matchesForm(m.text, rulesWithRemedy) {
			faults = append(faults, "lacks a remedy: must be X, got Y; remedy")
		}
	case !hasRemedy:
		faults = append(faults, "lacks a remedy: state; remedy")
	}

	if m.uncut {
		faults = append(faults, "prints a given text in full length: use %.64q")
	}
	return faults
}

// matchesForm reports whether the rule in a message has one of the forms.
func matchesForm(text string, forms []ruleForm) bool {
	return slices.ContainsFunc(forms, func(f ruleForm) bool { return f.form.MatchString(text) })
}

// listMessages returns the messages of the product code below root.
func listMessages(t *testing.T, root string) []message {
	t.Helper()

	files := map[string]map[string]*ast.File{}
	set := token.NewFileSet()
	for _, folder := range productFolders {
		err := filepath.WalkDir(filepath.Join(root, folder), func(name string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}

			relative, err := filepath.Rel(root, name)
			if err != nil {
				return err
			}
			relative = filepath.ToSlash(relative)
			if entry.IsDir() {
				if silentFolders[relative] != "" || entry.Name() == "testdata" {
					return filepath.SkipDir
				}
				return nil
			}
			if filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
				return nil
			}

			file, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}

			dir := path.Dir(relative)
			if files[dir] == nil {
				files[dir] = map[string]*ast.File{}
			}
			files[dir][relative] = file
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}

	var messages []message
	for dir, sources := range files {
		constructors := findConstructors(dir, sources)
		constants := findConstants(sources)
		for name, file := range sources {
			ast.Inspect(file, func(n ast.Node) bool {
				expr, kind := messageOf(n, constructors)
				if expr == nil {
					return true
				}

				m := message{place: fmt.Sprintf("%s:%d", name, set.Position(n.Pos()).Line), kind: kind}
				m.text, m.uncut = readMessage(expr, constants)
				// A message that is, or ends with, the message of another error is checked where that one is made.
				forwards := strings.HasSuffix(m.text, ": …") || addsRemedy.MatchString(m.text) || isPart(dir, m) || strings.Trim(m.text, "… -:;%swvq") == "" || strings.Contains(m.text, "%w")
				if !forwards && silentErrors[m.text] == "" {
					messages = append(messages, m)
				}
				return true
			})
		}
	}
	slices.SortFunc(messages, func(a, b message) int { return strings.Compare(a.place, b.place) })
	return messages
}

// findConstructors returns the functions that make an error from a message, by the name that calls in dir use. A function
// that passes a parameter of its own on as the message is a constructor too.
func findConstructors(dir string, sources map[string]*ast.File) map[string]constructor {
	found := map[string]constructor{
		"queue.Invalid": {"KindInvalid", 1},
		"cmdutil.Usage": {"KindInvalid", 0},
	}
	if dir == "domain/schedule" {
		found["invalidSpec"] = constructor{"KindInvalid", 1}
		found["invalidElement"] = constructor{"KindInvalid", 1}
	}
	if dir == "domain/queue" {
		found["Invalid"] = constructor{"KindInvalid", 1}
	}
	if dir == "adapters/embedded" {
		found["invalidOption"] = constructor{"KindInvalid", 1}
		found["errors.New"] = constructor{"", 0}
		found["fmt.Errorf"] = constructor{"", 0}
	}
	if strings.HasPrefix(dir, "apps/") {
		found["errors.New"] = constructor{"KindInvalid", 0}
		found["fmt.Errorf"] = constructor{"KindInvalid", 0}
	}

	for again := true; again; {
		again = false
		for _, file := range sources {
			for _, decl := range file.Decls {
				function, ok := decl.(*ast.FuncDecl)
				if !ok || function.Body == nil || found[function.Name.Name] != (constructor{}) {
					continue
				}

				parameters := listParameters(function)
				ast.Inspect(function.Body, func(n ast.Node) bool {
					expr, kind := messageOf(n, found)
					if call, ok := expr.(*ast.CallExpr); ok && nameOf(call.Fun) == "fmt.Sprintf" {
						expr = call.Args[0]
					}
					name, ok := expr.(*ast.Ident)
					if !ok {
						return true
					}
					if i := slices.Index(parameters, name.Name); i >= 0 {
						found[function.Name.Name] = constructor{kind, i}
						again = true
					}
					return true
				})
			}
		}
	}
	return found
}

// findConstants returns the texts of a package's constants, those inside functions included.
func findConstants(sources map[string]*ast.File) map[string]string {
	texts := map[string]string{}
	for _, file := range sources {
		ast.Inspect(file, func(n ast.Node) bool {
			decl, ok := n.(*ast.GenDecl)
			if !ok || decl.Tok != token.CONST {
				return true
			}

			for _, spec := range decl.Specs {
				names, values := spec.(*ast.ValueSpec).Names, spec.(*ast.ValueSpec).Values
				if len(names) != 1 || len(values) != 1 {
					continue
				}
				if text, _ := readMessage(values[0], nil); text != "…" {
					texts[names[0].Name] = text
				}
			}
			return true
		})
	}
	return texts
}

// listParameters returns the names of a function's parameters in their order.
func listParameters(function *ast.FuncDecl) (names []string) {
	for _, field := range function.Type.Params.List {
		for _, name := range field.Names {
			names = append(names, name.Name)
		}
	}
	return names
}

// messageOf returns the message and the kind of the error that n makes, or nil.
func messageOf(n ast.Node, constructors map[string]constructor) (expr ast.Expr, kind string) {
	switch n := n.(type) {
	case *ast.CallExpr:
		name := nameOf(n.Fun)
		c, ok := constructors[name]
		if method, isMethod := n.Fun.(*ast.SelectorExpr); !ok && isMethod {
			c, ok = constructors[method.Sel.Name]
		}
		if ok && c.message < len(n.Args) {
			return n.Args[c.message], c.kind
		}

	case *ast.CompositeLit:
		if name := nameOf(n.Type); name != "queue.Error" && name != "Error" {
			return nil, ""
		}

		for _, element := range n.Elts {
			pair, ok := element.(*ast.KeyValueExpr)
			if !ok {
				continue
			}
			switch nameOf(pair.Key) {
			case "Msg":
				expr = pair.Value
			case "Kind":
				kind = nameOf(pair.Value)
				kind = kind[strings.LastIndex(kind, ".")+1:]
			}
		}
		if !strings.HasPrefix(kind, "Kind") {
			return nil, "" // it takes kind and message from another error
		}
		return expr, kind
	}
	return nil, ""
}

// nameOf returns a name or a qualified name; "" for other expressions.
func nameOf(expr ast.Expr) string {
	switch expr := expr.(type) {
	case *ast.Ident:
		return expr.Name
	case *ast.SelectorExpr:
		if left, ok := expr.X.(*ast.Ident); ok {
			return left.Name + "." + expr.Sel.Name
		}
	}
	return ""
}

// readMessage returns the text of a message, and whether it prints a given text in full length.
func readMessage(expr ast.Expr, constants map[string]string) (text string, uncut bool) {
	switch expr := expr.(type) {
	case *ast.BasicLit:
		text, _ = strconv.Unquote(expr.Value)
		return text, false

	case *ast.Ident:
		if text, ok := constants[expr.Name]; ok {
			return text, false
		}

	case *ast.BinaryExpr:
		left, leftUncut := readMessage(expr.X, constants)
		right, rightUncut := readMessage(expr.Y, constants)
		if strings.HasSuffix(left, "got ") && right == "…" && !cutsText(expr.Y) {
			rightUncut = true
		}
		return left + right, leftUncut || rightUncut

	case *ast.CallExpr:
		if nameOf(expr.Fun) != "fmt.Sprintf" {
			return "…", false
		}

		text, _ = readMessage(expr.Args[0], constants)
		return text, printsUncut(text, expr.Args[1:])
	}
	return "…", false
}

// printsUncut reports whether a verb behind "got" prints a text that nothing cuts.
func printsUncut(format string, args []ast.Expr) bool {
	span := givenValue.FindStringSubmatchIndex(format)
	if span == nil {
		return false
	}

	for _, at := range textVerb.FindAllStringIndex(format, -1) {
		if at[0] < span[2] || at[1] > span[3] || strings.Contains(format[at[0]:at[1]], ".64") {
			continue
		}
		if i := strings.Count(format[:at[0]], "%"); i < len(args) && !cutsText(args[i]) {
			return true
		}
	}
	return false
}

// cutsText reports whether an expression is the call of a cutter.
func cutsText(expr ast.Expr) bool {
	call, ok := expr.(*ast.CallExpr)
	if !ok {
		return false
	}
	name := nameOf(call.Fun)
	return slices.Contains(cutters, name[strings.LastIndex(name, ".")+1:])
}
