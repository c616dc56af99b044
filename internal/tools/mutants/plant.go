package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// plantedEnv says to a test binary which mistake to make, by its place in the table.
const (
	plantedEnv = "LIBCLUSTER_MUTANT"
	none       = -1
)

// chooser is a file that is added to each package with a mistake.
const chooser = `package %s

import (
	"os"
	"strconv"
)

var planted, _ = strconv.Atoi(os.Getenv("` + plantedEnv + `"))
`

// plant writes the files with all mistakes into folder, and an overlay with which the
// compiler reads them in the place of the tree's. A function with a mistake
// begins with its own body as the mistake has it, for when that one is planted:
//
//	if planted == 7 {
//		...
//	}
func plant(folder string) (overlay string, err error) {
	bodies := map[string]map[*ast.BlockStmt]string{} // by file
	files := map[string]source{}
	for i, m := range mutants {
		s, read := files[m.file]
		if !read {
			if s, err = readSource(m.file); err != nil {
				return "", err
			}
			files[m.file], bodies[m.file] = s, map[*ast.BlockStmt]string{}
		}
		body, mistaken, err := s.with(m)
		if err != nil {
			return "", fmt.Errorf("%s: %w", m.name, err)
		}
		bodies[m.file][body] += fmt.Sprintf("if planted == %d {%s}\n", i, mistaken)
	}

	replace := map[string]string{}
	add := func(name, text string) error {
		original, err := filepath.Abs(filepath.Join(*root, name))
		if err != nil {
			return err
		}
		replace[original] = filepath.Join(folder, strings.ReplaceAll(name, "/", "_"))
		return os.WriteFile(replace[original], []byte(text), 0o600)
	}
	for name, s := range files {
		if err := add(path.Join(path.Dir(name), "planted_mutant.go"), fmt.Sprintf(chooser, s.pkg)); err != nil {
			return "", err
		}
		if err := add(name, s.beginning(bodies[name])); err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(folder, "overlay.json")
	return overlay, os.WriteFile(overlay, text, 0o600)
}

// source is a file, and its functions.
type source struct {
	text      string
	pkg       string
	functions []*ast.FuncDecl // in the order of the file
	at        func(token.Pos) int
}

func readSource(name string) (source, error) {
	text, err := os.ReadFile(filepath.Join(*root, name))
	if err != nil {
		return source{}, err
	}
	positions := token.NewFileSet()
	file, err := parser.ParseFile(positions, name, text, parser.SkipObjectResolution)
	if err != nil {
		return source{}, err
	}
	s := source{text: string(text), pkg: file.Name.Name, at: func(p token.Pos) int { return positions.Position(p).Offset }}
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil {
			s.functions = append(s.functions, f)
		}
	}
	return s, nil
}

// with returns the body of the function that a mistake is in, and its text with the
// mistake, without the braces. It ends with a return, be it one that is never reached.
func (s source) with(m mutant) (body *ast.BlockStmt, mistaken string, err error) {
	if n := strings.Count(s.text, m.old); n != 1 {
		return nil, "", fmt.Errorf("this stands %d times in %s, and should once: %s", n, m.file, m.old)
	}
	begins := strings.Index(s.text, m.old)
	for _, f := range s.functions {
		first, last := s.at(f.Body.Lbrace)+1, s.at(f.Body.Rbrace)
		if begins < first || begins+len(m.old) > last {
			continue
		}
		mistaken = strings.Replace(s.text[first:last], m.old, m.new, 1)
		if f.Type.Results == nil {
			mistaken += "\nreturn\n"
		}
		return f.Body, mistaken, nil
	}
	return nil, "", fmt.Errorf("this is in no function of %s: %s", m.file, m.old)
}

// beginning returns the text of the file with something at the beginning of bodies.
func (s source) beginning(with map[*ast.BlockStmt]string) string {
	var text strings.Builder
	done := 0
	for _, f := range s.functions {
		first := s.at(f.Body.Lbrace) + 1
		text.WriteString(s.text[done:first] + with[f.Body])
		done = first
	}
	return text.String() + s.text[done:]
}
