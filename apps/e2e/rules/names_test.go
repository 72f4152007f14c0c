package rules_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"testing"
)

// harmlessName matches the name of a function that promises to change nothing.
var harmlessName = regexp.MustCompile(`^(find|is|has|may|check|count)[A-Z]`)

// TestNamesPromiseNoChange: a reader skips a function with such a name when looking for the line that changes a value. So it must not
// change its receiver. A cache that it fills belongs into a function with another name.
func TestNamesPromiseNoChange(t *testing.T) {
	t.Parallel()
	for _, files := range parseProduct(t) {
		for name, file := range files {
			for _, function := range listChangersWithHarmlessNames(file) {
				t.Errorf("%s: %s changes its receiver; name it after the change, such as add, set, ensure or claim", name, function)
			}
		}
	}
}

// TestListChangersWithHarmlessNames: the search finds each form of a change.
func TestListChangersWithHarmlessNames(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]bool{
		"s.n = 1":                          true,
		"s.n++":                            true,
		"s.m[k] = v":                       true,
		"s.inner.n += 2":                   true,
		"delete(s.m, k)":                   true,
		"clear(s.m)":                       true,
		"func() { s.n = 1 }()":             true,
		"n := s.n; n++":                    false,
		"s = nil":                          false,
		"other.n = 1":                      false,
		"for s.n == 0 { _ = s.m[k] }":      false,
		"if v, ok := s.m[k]; ok { _ = v }": false,
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x\nfunc (s *store) findIt() {\n"+body+"\n}", parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(listChangersWithHarmlessNames(file)) > 0; got != want {
			t.Errorf("%s: found %v, want %v", body, got, want)
		}
	}
}

func listChangersWithHarmlessNames(file *ast.File) (names []string) {
	for _, d := range file.Decls {
		function, ok := d.(*ast.FuncDecl)
		if !ok || function.Body == nil || function.Recv == nil || len(function.Recv.List[0].Names) == 0 || !harmlessName.MatchString(function.Name.Name) {
			continue
		}
		if _, isPointer := function.Recv.List[0].Type.(*ast.StarExpr); isPointer && changes(function.Body, function.Recv.List[0].Names[0].Name) {
			names = append(names, function.Name.Name)
		}
	}
	return names
}

// changes reports whether a body assigns to a part of a variable, or removes from it.
func changes(body *ast.BlockStmt, variable string) (found bool) {
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for _, target := range n.Lhs {
				found = found || n.Tok != token.DEFINE && isPartOf(target, variable)
			}
		case *ast.IncDecStmt:
			found = found || isPartOf(n.X, variable)
		case *ast.CallExpr:
			if name, ok := n.Fun.(*ast.Ident); ok && (name.Name == "delete" || name.Name == "clear") {
				found = found || isPartOf(n.Args[0], variable)
			}
		}
		return true
	})
	return found
}

// isPartOf reports whether an expression is a field or an element of a variable, and not the variable itself.
func isPartOf(e ast.Expr, variable string) bool {
	for part := false; ; part = true {
		switch x := e.(type) {
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.Ident:
			return part && x.Name == variable
		default:
			return false
		}
	}
}
