package libcluster_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const modulePath = "github.com/libcluster/libcluster"

// allowedModules are what the root package may import besides the standard
// library. What an importer of libcluster gets is these and what they need, so
// a new one needs a reason as good.
var allowedModules = map[string]string{
	"go.etcd.io/etcd/api/v3":       "the messages of etcd's protocol, and its errors",
	"go.etcd.io/etcd/client/v3":    "the client",
	"go.uber.org/zap":              "Config.Logger",
	"github.com/google/uuid":       "the default of Config.ID",
	"github.com/cespare/xxhash/v2": "the hash of Slot; small, and needs nothing else",
	"google.golang.org/grpc":       "how the client of etcd reconnects",
	"golang.org/x/sys":             "the clock that goes on while a Linux machine sleeps",
}

// unwantedModules must not be needed, however indirectly. A name stands for
// all modules below it, too.
var unwantedModules = map[string]string{
	modulePath:                    "other packages of this module are for those who import them; embedded is an etcd server",
	"go.etcd.io/etcd/server":      "a database server; belongs to embedded",
	"go.etcd.io/etcd/pkg":         "what the server and its commands share",
	"go.etcd.io/bbolt":            "the server's storage",
	"go.etcd.io/raft":             "the server's consensus",
	"github.com/prometheus":       "metrics are a package of their own; not everybody wants them, or these",
	"go.opentelemetry.io":         "tracing and metrics, as Prometheus",
	"github.com/spf13/pflag":      "flags are for commands",
	"github.com/spf13/cobra":      "commands are for commands",
	"github.com/cpuguy83":         "makes the commands' manual pages",
	"github.com/russross":         "as cpuguy83",
	"github.com/hashicorp":        "gossip is a package of its own",
	"github.com/stretchr/testify": "is for tests",
	"github.com/chromedp":         "drives a browser, for tests of httpapi",
	"github.com/santhosh-tekuri":  "validates JSON, for tests of httpapi",
	"go.uber.org/goleak":          "is for tests",
	"pgregory.net/rapid":          "is for tests",
	"modernc.org":                 "databases are for tests",
}

// ownPackages of this module are a part of what its importers get.
var ownPackages = map[string]string{
	modulePath + "/kv":              "what a store must do; needs nothing else",
	modulePath + "/internal/etcd":   "a store on etcd; needs its client only",
	modulePath + "/internal/chance": "what instances leave to chance; needs nothing else",
	modulePath + "/internal/outlet": "nothing may wait for Config.Logger; small, and needs nothing but zap",
	modulePath + "/internal/quote":  "what others wrote may hold a terminal's escapes; small, and needs nothing else",
}

// unwantedPackages of the standard library do something to a program by only
// being in it.
var unwantedPackages = map[string]string{
	"testing":        "is for tests",
	"net/http/pprof": "adds handlers to the program's server",
	"expvar":         "adds a handler to the program's server",
}

// goPackage is what `go list -json` says of one package.
type goPackage struct {
	ImportPath string
	Standard   bool
	DepOnly    bool
	Imports    []string
	Module     struct{ Path string }
}

// listPackages returns the root package and all that it needs on goos, without
// any test.
func listPackages(t *testing.T, goos string) (root goPackage, all map[string]goPackage) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Standard,DepOnly,Imports,Module", ".")
	cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH=amd64", "CGO_ENABLED=0", "GOFLAGS=") // such as -race
	out, err := cmd.Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		t.Fatalf("go list: %v\n%s", err, failed.Stderr)
	}
	require.NoError(t, err)

	all = map[string]goPackage{}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		all[p.ImportPath] = p
		if !p.DepOnly {
			root = p
		}
	}
	require.Equal(t, modulePath, root.ImportPath)
	return root, all
}

func TestRootPackageCostsItsImporterOnlyWhatItUses(t *testing.T) {
	for _, goos := range []string{"linux", "darwin", "windows"} {
		t.Run(goos, func(t *testing.T) {
			root, all := listPackages(t, goos)
			for _, path := range root.Imports {
				p := all[path]
				if !p.Standard && ownPackages[path] == "" {
					require.Contains(t, allowedModules, p.Module.Path, "%s imports %s", modulePath, path)
				}
			}
			for path, p := range all {
				if reason, unwanted := unwantedPackages[path]; unwanted {
					t.Errorf("%s is needed by %s: %s", path, importers(all, path), reason)
				}
				if path == modulePath || ownPackages[path] != "" {
					continue
				}
				for unwanted, reason := range unwantedModules {
					if p.Module.Path == unwanted || strings.HasPrefix(p.Module.Path, unwanted+"/") {
						t.Errorf("%s is needed by %s: %s", path, importers(all, path), reason)
					}
				}
			}
		})
	}
}

// importers returns who imports path, to tell how it got in.
func importers(all map[string]goPackage, path string) []string {
	var importers []string
	for _, p := range all {
		if slices.Contains(p.Imports, path) {
			importers = append(importers, p.ImportPath)
		}
	}
	return importers
}

func TestAllThatIsExportedIsDocumented(t *testing.T) {
	pkg := documentation(t)
	require.True(t, strings.HasPrefix(pkg.Doc, "Package libcluster "), "the package")
	checkFunctions(t, pkg.Funcs)
	checkValues(t, pkg.Consts)
	checkValues(t, pkg.Vars)
	for _, typ := range pkg.Types {
		checkDoc(t, typ.Name, typ.Name, typ.Doc)
		checkFunctions(t, typ.Funcs)
		checkFunctions(t, typ.Methods)
		checkValues(t, typ.Consts)
		checkValues(t, typ.Vars)
	}
}

// documentation returns what `go doc` knows of the root package, on any system.
func documentation(t *testing.T) *doc.Package {
	t.Helper()
	names, err := filepath.Glob("*.go")
	require.NoError(t, err)
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		require.NoError(t, err)
		files = append(files, file)
	}
	pkg, err := doc.NewFromFiles(fset, files, modulePath)
	require.NoError(t, err)
	return pkg
}

func checkDoc(t *testing.T, what, name, text string) {
	t.Helper()
	require.Regexp(t, `^`+name+`\b`, text, "the comment on %s must start with its name", what)
}

func checkFunctions(t *testing.T, functions []*doc.Func) {
	t.Helper()
	for _, f := range functions {
		if f.Recv != "" && (f.Name == "Error" || f.Name == "Unwrap") {
			continue // package errors says what these mean
		}
		checkDoc(t, f.Recv+" "+f.Name, f.Name, f.Doc)
	}
}

// checkValues wants a comment on each constant or variable, or one on a group
// that shares it.
func checkValues(t *testing.T, groups []*doc.Value) {
	t.Helper()
	for _, group := range groups {
		for _, spec := range group.Decl.Specs {
			spec := spec.(*ast.ValueSpec)
			for _, name := range spec.Names {
				if name.IsExported() && group.Doc == "" {
					checkDoc(t, name.Name, name.Name, spec.Doc.Text())
				}
			}
		}
	}
}
