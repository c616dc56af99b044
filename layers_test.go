package libcluster_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// engine are the files of the goroutines of a membership, of what these own, and of the calls
// that applications make. They name one another.
var engine = strings.Fields(`
	balancer.go changed.go coordination.go coordinator.go coverage_watch.go drain.go draining.go etcd_fence.go exit.go
	heartbeat.go incarnation.go last_plan.go libcluster.go members.go membership.go notifier.go owner.go ping.go
	planned.go reclaim.go record.go restart.go run.go run_partitions.go stats.go store_fence.go view.go`)

// The values, the pure rules, the session on a store and the registry on etcd can be read
// without the engine.
func TestNothingElseNamesTheEngine(t *testing.T) {
	fset := token.NewFileSet()
	names, err := filepath.Glob("*.go")
	require.NoError(t, err)
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") || name == "clock_other.go" { // clock_linux.go has the same names
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		files = append(files, file)
	}
	for _, name := range engine {
		require.Contains(t, names, name)
	}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	config := types.Config{Importer: empty{}, Error: func(error) {}} // what is imported is not found
	pkg, _ := config.Check(modulePath, fset, files, info)
	fileOf := func(at token.Pos) string { return filepath.Base(fset.Position(at).Filename) }
	found := 0
	for use, object := range info.Uses {
		if object.Pkg() != pkg || !object.Pos().IsValid() || !slices.Contains(engine, fileOf(object.Pos())) {
			continue
		}
		found++
		if at := fset.Position(use.Pos()); !slices.Contains(engine, fileOf(use.Pos())) {
			t.Errorf("%s:%d names %s, which is in %s", filepath.Base(at.Filename), at.Line, object.Name(), fileOf(object.Pos()))
		}
	}
	require.Greater(t, found, 1000, "the engine's own uses")
}

// empty imports nothing of a package.
type empty struct{}

func (empty) Import(path string) (*types.Package, error) {
	p := types.NewPackage(path, filepath.Base(path))
	p.MarkComplete()
	return p, nil
}
