package rules_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strings"
	"testing"
)

// comparedTexts are the places that may compare the text of an error, with the reason. Where a library has no type, a test holds the
// text of the real library. The other places change the words of a message alone, never its kind.
var comparedTexts = map[string]string{
	"adapters/embedded/fetch.go: downloadArchive":                   "the library of embedded servers has no type; TestBinariesAreFetchedOnce",
	"transport/connect/connectclient/call.go: translateError":       "net/http has no type; TestAServerOfHTTP1IsNamed",
	"transport/connect/connectserver/codec.go: describeDecodeError": "protobuf has no type, and each of its errors is invalid input; words alone",
	"transport/rest/restapi/json.go: explainError":                  "encoding/json has no type for two ends of a text; words alone",
	"apps/internal/program/database.go: checkURL":                   "the driver has no type, and its text may hold a password; words alone",
	"apps/cli/internal/cmd/transfer/lines.go: explainNotTask":       "a line of an import has other remedies than a body; words alone",
	"transport/rest/restapi/problem.go: Err":                        "the title stands for a detail that is absent; words alone",
	"adapters/sqltx/errors.go: translate":                           "the API in SQL has the field in its text alone; the kind comes from the SQLSTATE",
	"adapters/sqltx/errors.go: messageOf":                           "each driver adds a frame of its own, which goes; words alone",
	"adapters/telemetry/log.go: Redact":                             "it hides passwords",
	"adapters/telemetry/log.go: mayHoldSecret":                      "it hides passwords",
	"adapters/jsonschema/fault.go: listFaults":                      "an order",
	"adapters/memory/ticks.go: fireDueTickers":                      "the same fault is logged once",
	"adapters/postgres/ticker.go: describeFault":                    "the same fault is logged once",
	"adapters/postgres/row_filter.go: recordFault":                  "the same fault is logged once",
	"apps/server/run/settingfiles.go: read":                         "the same fault is logged once",
}

// comparers are the functions that compare texts.
var comparers = []string{
	"Contains", "ContainsAny", "HasPrefix", "HasSuffix", "EqualFold", "Index", "LastIndex", "Count", "Compare", "CutPrefix", "CutSuffix", "Cut",
}

// TestNoTextOfAMessageIsCompared: messages are for people and change, so no code decides by their text. It decides by kinds,
// fields, subjects, codes and types.
func TestNoTextOfAMessageIsCompared(t *testing.T) {
	t.Parallel()

	found := map[string]bool{}
	for _, files := range parseProduct(t) {
		for _, place := range findTextComparisons(files) {
			found[place] = true
			if comparedTexts[place] == "" {
				t.Errorf("%s compares the text of a message; decide by a kind, field, subject, code or type", place)
			}
		}
	}
	for place := range comparedTexts {
		if !found[place] {
			t.Errorf("%s compares no text any more; remove it from the list", place)
		}
	}
}

// parseProduct parses the files of the product without its tests, by folder and name.
func parseProduct(t *testing.T) map[string]map[string]*ast.File {
	t.Helper()
	packages := map[string]map[string]*ast.File{}
	for name, text := range readGoFiles(t, "../../..") {
		isProduct := slices.ContainsFunc(productFolders, func(folder string) bool { return strings.HasPrefix(name, folder+"/") })
		if !isProduct || strings.HasSuffix(name, "_test.go") || isTestCode(name) {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		dir := path.Dir(name)
		if packages[dir] == nil {
			packages[dir] = map[string]*ast.File{}
		}
		packages[dir][name] = file
	}
	return packages
}

// isTestCode reports whether a file helps tests alone.
func isTestCode(name string) bool {
	for folder := range silentFolders {
		if strings.HasPrefix(name, folder+"/") {
			return true
		}
	}
	return strings.HasSuffix(path.Dir(name), "test")
}

// TestFindTextComparisons: the search finds each form of a comparison, through variables and functions of the package.
func TestFindTextComparisons(t *testing.T) {
	t.Parallel()

	for body, want := range map[string]bool{
		`return strings.Contains(err.Error(), "x")`:                  true,
		`return strings.HasPrefix(e.Msg, "x")`:                       true,
		`return err.Error() == "x"`:                                  true,
		`return "x" != fmt.Sprint(err)`:                              true,
		`switch err.Error() { case "x": return true }; return false`: true,
		`text := err.Error(); return strings.Contains(text, "x")`:    true,
		`text := clean(err); return strings.Contains(text, "x")`:     true,
		`return isOf(err.Error())`:                                   true,
		`return pattern.MatchString(err.Error())`:                    true,
		`return slices.Contains([]string{"x"}, err.Error())`:         true,
		`return strings.Contains(e.Subject, "x")`:                    false,
		`return e.Msg == ""`:                                         false,
		`return errors.Is(err, io.EOF)`:                              false,
		`fmt.Print(err.Error()); return strings.Contains(name, "x")`: false,
	} {
		source := `package p
func clean(err error) string { return strings.TrimSpace(err.Error()) }
func isOf(text string) bool { return ` + map[bool]string{true: `strings.Contains(text, "x")`, false: `text == ""`}[strings.Contains(body, "isOf")] + ` }
func subject() bool { ` + body + ` }`
		file, err := parser.ParseFile(token.NewFileSet(), "p.go", source, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if found := findTextComparisons(map[string]*ast.File{"p.go": file}); len(found) > 0 != want {
			t.Errorf("%s: found %v", body, found)
		}
	}
}

// textSearch finds the functions of a package that compare texts of errors.
type textSearch struct {
	returns map[string]bool            // functions that return such a text
	takes   map[string]map[string]bool // parameters that get such a text, by function
	order   map[string][]string        // parameters by function
}

// findTextComparisons returns the places in the files of a package that compare the text of an error, as "file.go: function".
func findTextComparisons(files map[string]*ast.File) (places []string) {
	s := &textSearch{returns: map[string]bool{"OneLine": true}, takes: map[string]map[string]bool{}, order: map[string][]string{}}
	visit := func(do func(name string, f *ast.FuncDecl)) {
		for name, file := range files {
			for _, decl := range file.Decls {
				if f, ok := decl.(*ast.FuncDecl); ok && f.Body != nil {
					do(name, f)
				}
			}
		}
	}
	visit(func(_ string, f *ast.FuncDecl) { s.order[f.Name.Name] = listParameters(f) })

	// A function passes a text on to another one, so the search repeats until it learns nothing.
	for before := -1; before != s.size(); {
		before = s.size()
		visit(func(_ string, f *ast.FuncDecl) { s.learn(f) })
	}
	visit(func(name string, f *ast.FuncDecl) {
		if s.compares(f) {
			places = append(places, fmt.Sprintf("%s: %s", name, f.Name.Name))
		}
	})
	return places
}

// size counts what s has learnt.
func (s *textSearch) size() int {
	n := len(s.returns)
	for _, parameters := range s.takes {
		n += len(parameters)
	}
	return n
}

// textsOf returns the variables of f that hold the text of an error.
func (s *textSearch) textsOf(f *ast.FuncDecl) map[string]bool {
	texts := map[string]bool{}
	for name := range s.takes[f.Name.Name] {
		texts[name] = true
	}
	for before := -1; before != len(texts); {
		before = len(texts)
		ast.Inspect(f.Body, func(n ast.Node) bool {
			assign, ok := n.(*ast.AssignStmt)
			if !ok {
				return true
			}
			for i, left := range assign.Lhs {
				name, ok := left.(*ast.Ident)
				if ok && len(assign.Rhs) == len(assign.Lhs) && s.isText(assign.Rhs[i], texts) {
					texts[name.Name] = true
				}
			}
			return true
		})
	}
	return texts
}

// isText reports whether an expression is the text of an error.
func (s *textSearch) isText(expr ast.Expr, texts map[string]bool) bool {
	switch expr := expr.(type) {
	case *ast.Ident:
		return texts[expr.Name]
	case *ast.ParenExpr:
		return s.isText(expr.X, texts)
	case *ast.BinaryExpr:
		return expr.Op == token.ADD && (s.isText(expr.X, texts) || s.isText(expr.Y, texts))
	case *ast.SliceExpr:
		return s.isText(expr.X, texts)
	case *ast.SelectorExpr:
		return slices.Contains([]string{"Msg", "Detail", "Message", "Hint"}, expr.Sel.Name)
	case *ast.CallExpr:
		return s.isTextCall(expr, texts)
	}
	return false
}

// isTextCall reports whether a call returns the text of an error.
func (s *textSearch) isTextCall(call *ast.CallExpr, texts map[string]bool) bool {
	name := nameOf(call.Fun)
	if method, ok := call.Fun.(*ast.SelectorExpr); ok && len(call.Args) == 0 && method.Sel.Name == "Error" {
		return true
	}
	if s.returns[name[strings.LastIndex(name, ".")+1:]] {
		return true
	}
	isPrint := strings.HasPrefix(name, "fmt.Sprint")
	changes := strings.HasPrefix(name, "strings.") || strings.HasPrefix(name, "bytes.") || name == "string"
	return slices.ContainsFunc(call.Args, func(arg ast.Expr) bool {
		variable, isVariable := arg.(*ast.Ident)
		return (isPrint || changes) && s.isText(arg, texts) || isPrint && isVariable && variable.Name == "err"
	})
}

// learn notes the results and the arguments of f that are texts of errors.
func (s *textSearch) learn(f *ast.FuncDecl) {
	texts := s.textsOf(f)
	isString := f.Type.Results != nil && len(f.Type.Results.List) == 1 && nameOf(f.Type.Results.List[0].Type) == "string"
	ast.Inspect(f.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return true
		case *ast.ReturnStmt:
			if isString && f.Name.Name != "String" && slices.ContainsFunc(n.Results, func(r ast.Expr) bool { return s.isText(r, texts) }) {
				s.returns[f.Name.Name] = true
			}
		case *ast.CallExpr:
			name, ok := n.Fun.(*ast.Ident)
			if !ok {
				return true
			}
			for i, arg := range n.Args {
				if i < len(s.order[name.Name]) && s.isText(arg, texts) {
					if s.takes[name.Name] == nil {
						s.takes[name.Name] = map[string]bool{}
					}
					s.takes[name.Name][s.order[name.Name][i]] = true
				}
			}
		}
		return true
	})
}

// compares reports whether f compares the text of an error with another text. It may ask for the empty text.
func (s *textSearch) compares(f *ast.FuncDecl) (found bool) {
	texts := s.textsOf(f)
	isText := func(e ast.Expr) bool { return s.isText(e, texts) }
	ast.Inspect(f.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BinaryExpr:
			if n.Op == token.EQL || n.Op == token.NEQ {
				found = found || isText(n.X) && !isEmptyText(n.Y) || isText(n.Y) && !isEmptyText(n.X)
			}
		case *ast.SwitchStmt:
			found = found || n.Tag != nil && isText(n.Tag)
		case *ast.CallExpr:
			name := nameOf(n.Fun)
			left, function, _ := strings.Cut(name, ".")
			isComparer := slices.Contains(comparers, function) && (left == "strings" || left == "bytes" || left == "slices")
			if isComparer || strings.HasPrefix(function, "Match") || strings.HasPrefix(function, "FindString") {
				found = found || slices.ContainsFunc(n.Args, isText)
			}
		}
		return !found
	})
	return found
}

// isEmptyText reports whether an expression is the empty text.
func isEmptyText(e ast.Expr) bool {
	literal, ok := e.(*ast.BasicLit)
	return ok && literal.Value == `""`
}
