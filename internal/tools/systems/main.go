// Systems type-checks the module as on other systems, and of its dependencies what they declare. A
// compiler would find no more of the module's mistakes, and takes minutes for an etcd server.
//
//	go -C internal/tools run ./systems
package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/tools/go/packages"
)

// systems are one of each kind that somebody may run on, besides this one.
var systems = []string{"linux/arm64", "darwin/amd64", "darwin/arm64", "windows/amd64", "windows/arm64", "freebsd/amd64"}

func main() {
	failed := false
	for _, system := range systems {
		n, err := check(system)
		if err != nil {
			failed = true
			fmt.Printf("%s: %v\n", system, err)
			continue
		}
		fmt.Printf("%s: %d packages, dependencies included\n", system, n)
	}
	if failed {
		os.Exit(1)
	}
}

// check returns how many packages there are, and what is wrong with any.
func check(system string) (checked int, err error) {
	name, architecture, _ := strings.Cut(system, "/")
	all, err := packages.Load(&packages.Config{
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedCompiledGoFiles | packages.NeedImports |
			packages.NeedDeps | packages.NeedTypes | packages.NeedSyntax | packages.NeedTypesInfo | packages.NeedTypesSizes,
		Dir: "../..", Fset: files, ParseFile: parse,
		Env: append(os.Environ(), "GOOS="+name, "GOARCH="+architecture, "CGO_ENABLED=0"),
	}, "./...")
	if err != nil {
		return 0, err
	}
	var wrong []error
	packages.Visit(all, nil, func(p *packages.Package) {
		checked++
		for _, e := range p.Errors {
			if e.Kind != packages.TypeError || isOurs(e.Pos) { // others lack the bodies that use their imports
				wrong = append(wrong, e)
			}
		}
	})
	return checked, errors.Join(wrong...)
}

var (
	files  = token.NewFileSet()
	parsed sync.Map // a *parsing by the name of its file: most files are the same on all systems
)

type parsing struct {
	once sync.Once
	file *ast.File
	err  error
}

// parse parses each file once, into files. Of a dependency's functions it leaves the bodies out.
func parse(_ *token.FileSet, name string, text []byte) (*ast.File, error) {
	found, _ := parsed.LoadOrStore(name, new(parsing))
	p := found.(*parsing)
	p.once.Do(func() {
		p.file, p.err = parser.ParseFile(files, name, text, parser.SkipObjectResolution)
		if p.err != nil || isOurs(name) {
			return
		}
		for _, d := range p.file.Decls {
			if f, is := d.(*ast.FuncDecl); is {
				f.Body = nil
			}
		}
	})
	return p.file, p.err
}

var module = func() string {
	folder, err := filepath.Abs("../..")
	if err != nil {
		panic(err)
	}
	return folder + string(filepath.Separator)
}()

func isOurs(file string) bool { return strings.HasPrefix(file, module) }
