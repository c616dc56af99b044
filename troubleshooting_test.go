package libcluster_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The page has each line of the log at Warn and Error, and none that there is not.
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
	require.ElementsMatch(t, troubleOf(t, ".", "peers", "gossip", "dirstore", "sqlstore", "sqlstore/pgnotify"), said)

	exported, err := os.ReadFile("errors.go")
	require.NoError(t, err)
	for _, name := range regexp.MustCompile(`(?m)^(?:\t|var )(Err\w+) +=`).FindAllStringSubmatch(string(exported), -1) {
		require.Contains(t, errs, "`"+name[1]+"`")
	}
}

// troubleOf returns the messages that the packages log at Warn and Error.
func troubleOf(t *testing.T, folders ...string) (messages []string) {
	var files []string
	for _, folder := range folders {
		in, err := filepath.Glob(filepath.Join(folder, "*.go"))
		require.NoError(t, err)
		files = append(files, in...)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if method, is := n.Fun.(*ast.SelectorExpr); is {
					messages = append(messages, logged(method, n.Args)...)
				}
			case *ast.AssignStmt: // level, message := …
				if to, is := n.Lhs[len(n.Lhs)-1].(*ast.Ident); is && to.Name == "message" && len(n.Rhs) == len(n.Lhs) {
					messages = append(messages, constant(n.Rhs[len(n.Rhs)-1])...)
				}
			}
			return true
		})
	}
	slices.Sort(messages)
	return slices.Compact(messages)
}

// logged returns the message of a call that logs at Warn or Error.
func logged(method *ast.SelectorExpr, args []ast.Expr) []string {
	on := method.X
	if of, is := on.(*ast.SelectorExpr); is {
		on = of.Sel
	}
	log, is := on.(*ast.Ident)
	switch {
	case (method.Sel.Name == "report" || method.Sel.Name == "reportError") && len(args) > 1:
		return constant(args[1])
	case !is || log.Name != "log" || len(args) == 0:
	case method.Sel.Name == "Warn", method.Sel.Name == "Error":
		return constant(args[0])
	case method.Sel.Name == "Log":
		return constant(args[1])
	}
	return nil
}

// constant returns the value of a constant text.
func constant(e ast.Expr) []string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil {
			return []string{text}
		}
	case *ast.BinaryExpr:
		if x, y := constant(e.X), constant(e.Y); x != nil && y != nil {
			return []string{x[0] + y[0]}
		}
	}
	return nil
}
