package libcluster_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The page has each line of the log at Warn and Error, and none that there is not. It has all
// errors that have a name.
func TestTroubleshootingHasEveryLineOfTheLog(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("TROUBLESHOOTING.md")
	require.NoError(t, err)
	_, lines, found := strings.Cut(string(page), "\n## Lines of the log\n")
	require.True(t, found)
	lines, errs, found := strings.Cut(lines, "\n## Errors\n")
	require.True(t, found)
	var said []string
	for _, heading := range regexp.MustCompile("(?m)^- (?:`[^`]+`(?:,\\s+)?)+").FindAllString(lines, -1) {
		for _, line := range regexp.MustCompile("`[^`]+`").FindAllString(heading, -1) {
			said = append(said, strings.Join(strings.Fields(strings.Trim(line, "`")), " "))
		}
	}
	var trouble, named []string
	for _, p := range users(t) {
		messages, err := p.trouble()
		require.NoError(t, err)
		trouble = append(trouble, messages...)
		named = append(named, p.errors()...)
	}
	slices.Sort(trouble)
	require.ElementsMatch(t, slices.Compact(trouble), said)

	var rows []string
	for _, row := range regexp.MustCompile("(?m)^\\|(?:,? `[^`]+`)+").FindAllString(errs, -1) {
		rows = append(rows, regexp.MustCompile(`\b(?:[a-z]+\.)?(?:Err\w+|[A-Z]\w*Error)\b`).FindAllString(row, -1)...)
	}
	require.ElementsMatch(t, named, rows)
}

// folder is the Go files of one folder.
type folder struct {
	path  string
	files []*ast.File
	fset  *token.FileSet
}

// users are the packages that users have something of, the commands included.
func users(t *testing.T) (all []folder) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if slices.Contains([]string{".git", "testdata", "examples", "internal/tools", "simulation", "libclustertest", "registrytest", "faults"}, filepath.ToSlash(path)) {
			return fs.SkipDir
		}
		names, err := filepath.Glob(filepath.Join(path, "*.go"))
		p := folder{path: path, fset: token.NewFileSet()}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(p.fset, name, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			p.files = append(p.files, file)
		}
		all = append(all, p)
		return err
	})
	require.NoError(t, err)
	return all
}

// errors are the names that users can give to errors: variables and types.
func (p folder) errors() (names []string) {
	if strings.HasPrefix(p.path, "internal") {
		return nil
	}
	qualifier := ""
	if p.path != "." {
		qualifier = filepath.Base(p.path) + "."
	}
	for _, file := range p.files {
		for _, d := range file.Decls {
			general, is := d.(*ast.GenDecl)
			if !is {
				continue
			}
			for _, s := range general.Specs {
				switch s := s.(type) {
				case *ast.ValueSpec:
					for _, name := range s.Names {
						if strings.HasPrefix(name.Name, "Err") && general.Tok == token.VAR {
							names = append(names, qualifier+name.Name)
						}
					}
				case *ast.TypeSpec:
					if s.Name.IsExported() && strings.HasSuffix(s.Name.Name, "Error") {
						names = append(names, qualifier+s.Name.Name)
					}
				}
			}
		}
	}
	return names
}

// trouble returns the messages that are logged at Warn and Error. What varies in a line has to be
// in its fields, so each message has to be a constant, at other levels too.
func (p folder) trouble() (messages []string, err error) {
	texts := p.constants()
	for _, file := range p.files {
		for _, d := range file.Decls {
			ast.Inspect(d, func(n ast.Node) bool {
				message, isTrouble := logged(n)
				if message == nil || isParameter(message, d) {
					return true
				}
				for _, m := range assigned(message, d) {
					text, is := constant(m, texts)
					if !is {
						err = errors.Join(err, fmt.Errorf("%v: the message is no constant", p.fset.Position(m.Pos())))
					}
					if isTrouble {
						messages = append(messages, text)
					}
				}
				return true
			})
		}
	}
	return messages, err
}

// logged returns the message that something logs, and whether it does so at Warn or Error.
func logged(n ast.Node) (message ast.Expr, isTrouble bool) {
	switch n := n.(type) {
	case *ast.CallExpr:
		method, is := n.Fun.(*ast.SelectorExpr)
		switch {
		case !is || len(n.Args) == 0:
		case (method.Sel.Name == "report" || method.Sel.Name == "reportError") && len(n.Args) > 1, method.Sel.Name == "Log" && len(n.Args) > 1 && isLogger(method.X):
			level := strings.TrimPrefix(nameOf(n.Args[0]), "zap.")
			return n.Args[1], level != "DebugLevel"
		case method.Sel.Name == "Warn", method.Sel.Name == "Error" && (isLogger(method.X) || slices.ContainsFunc(n.Args, isField)):
			return n.Args[0], true
		case (method.Sel.Name == "Info" || method.Sel.Name == "Debug") && isLogger(method.X):
			return n.Args[0], false
		}
	case *ast.CompositeLit:
		if nameOf(n.Type) != "Entry" {
			break
		}
		for _, e := range n.Elts {
			if field, is := e.(*ast.KeyValueExpr); is && nameOf(field.Key) == "Message" {
				return field.Value, true
			}
		}
	}
	return nil, false
}

// isLogger goes by the name: log, s.cfg.Logger, guardLog(), log.With(…).
func isLogger(e ast.Expr) bool {
	if call, is := e.(*ast.CallExpr); is {
		if of, is := call.Fun.(*ast.SelectorExpr); is && slices.Contains([]string{"With", "Named", "WithOptions"}, of.Sel.Name) {
			return isLogger(of.X)
		}
		return isLogger(call.Fun)
	}
	name := strings.ToLower(nameOf(e))
	return strings.HasSuffix(name, "log") || strings.HasSuffix(name, "logger")
}

// isField reports whether an argument is a zap.Error(…), or another field.
func isField(e ast.Expr) bool {
	call, is := e.(*ast.CallExpr)
	if !is {
		return false
	}
	of, is := call.Fun.(*ast.SelectorExpr)
	return is && nameOf(of.X) == "zap"
}

// nameOf is the last name in an expression.
func nameOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

// isParameter reports whether a message is that of a function which reports. What its callers give
// is looked at there.
func isParameter(message ast.Expr, in ast.Decl) bool {
	f, is := in.(*ast.FuncDecl)
	return is && strings.HasPrefix(f.Name.Name, "report") && nameOf(message) == "message"
}

// assigned returns what a variable is given within a declaration, or else the expression itself.
func assigned(message ast.Expr, in ast.Decl) (values []ast.Expr) {
	name, is := message.(*ast.Ident)
	if !is {
		return []ast.Expr{message}
	}
	ast.Inspect(in, func(n ast.Node) bool {
		if a, is := n.(*ast.AssignStmt); is && len(a.Lhs) == len(a.Rhs) {
			for i, to := range a.Lhs {
				if nameOf(to) == name.Name {
					values = append(values, a.Rhs[i])
				}
			}
		}
		return true
	})
	if values == nil {
		return []ast.Expr{message}
	}
	return values
}

// constants are the texts of the package that have a name.
func (p folder) constants() map[string]ast.Expr {
	texts := map[string]ast.Expr{}
	for _, file := range p.files {
		ast.Inspect(file, func(n ast.Node) bool {
			if d, is := n.(*ast.GenDecl); is && d.Tok == token.CONST {
				for _, s := range d.Specs {
					s := s.(*ast.ValueSpec)
					for i := range s.Values {
						texts[s.Names[i].Name] = s.Values[i]
					}
				}
			}
			return true
		})
	}
	return texts
}

// constant returns the value of a constant text, of which some have names.
func constant(e ast.Expr, names map[string]ast.Expr) (text string, is bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, err == nil
	case *ast.BinaryExpr:
		x, isX := constant(e.X, names)
		y, isY := constant(e.Y, names)
		return x + y, isX && isY
	case *ast.Ident:
		if value := names[e.Name]; value != nil {
			return constant(value, names)
		}
	}
	return "", false
}
