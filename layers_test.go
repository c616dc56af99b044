package libcluster_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// floors are the files of the root from the top down. What is on none of them lies below: the
// values, the pure rules, the session on a store and the registries.
var floors = [][]string{
	// The face: the methods of Cluster.
	strings.Fields("changed draining etcd_fence libcluster look record run store_fence"),
	// What works for a membership and its incarnations, each goroutine for itself.
	strings.Fields(`acknowledge balancer coordination coordinator engine exit heartbeat last_plan leaving live members
		notifier ping planned publisher reclaim restart run_partitions runner`),
	// What these share.
	strings.Fields("coverage_watch incarnation instance membership planned_view view"),
}

// loops are the files that name one another, each loop for a reason.
var loops = []string{
	"coverage_watch incarnation instance membership view", // an instance shows a view of an incarnation of a membership of the instance
	"engine exit",                           // the engine starts what leaves
	"ping reclaim",                          // a pinger, in two files
	"balancer planned",                      // a balancer, in two files
	"coordination coordinator",              // a coordinator at work goes back to it when it fails
	"cooperate decide stall",                // a decision, in three files
	"coverage coverage_partitions",          // a coverage, in two files
	"plan plan_partitions",                  // a plan's text, in two files
	"clock clock_linux",                     // a clock, and what systems differ in
	"leaving restart run_partitions runner", // options change a runner
	"holding slot state",                    // a state has methods in all
	"etcd etcd_connections etcd_login etcd_tls etcd_trouble", // configuration, and what is made of it
}

// A file names what is on its own floor or below, and no loop grows unseen.
func TestFilesNameNothingAbove(t *testing.T) {
	names := namedBy(t)
	floorOf := func(file string) int {
		at := slices.IndexFunc(floors, func(floor []string) bool { return slices.Contains(floor, file) })
		if at < 0 {
			return len(floors)
		}
		return at
	}
	for _, floor := range floors {
		for _, file := range floor {
			require.Contains(t, names, file)
		}
	}
	total := 0
	for file, others := range names {
		for other, what := range others {
			total++
			if floorOf(other) < floorOf(file) {
				t.Errorf("%s.go names %s, which is in %s.go on a floor above", file, what, other)
			}
		}
	}
	require.Greater(t, total, 500, "the arrows between files")

	var found []string
	for file := range names {
		loop := loopOf(file, names)
		if len(loop) > 1 && loop[0] == file {
			found = append(found, strings.Join(loop, " "))
		}
	}
	require.ElementsMatch(t, loops, found)
}

// namedBy returns for each file of the root the others that it names, and one name of each.
func namedBy(t *testing.T) map[string]map[string]string {
	fset := token.NewFileSet()
	paths, err := filepath.Glob("*.go")
	require.NoError(t, err)
	names := make(map[string]map[string]string)
	fileOf := func(at token.Pos) string {
		return strings.TrimSuffix(filepath.Base(fset.Position(at).Filename), ".go")
	}
	var files []*ast.File
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") || path == "clock_other.go" { // clock_linux.go has the same names
			continue
		}
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		files = append(files, file)
		names[fileOf(file.Package)] = make(map[string]string)
	}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	config := types.Config{Importer: empty{}, Error: func(error) {}} // what is imported is not found
	pkg, _ := config.Check(modulePath, fset, files, info)
	for use, object := range info.Uses {
		if object.Pkg() == pkg && object.Pos().IsValid() && fileOf(use.Pos()) != fileOf(object.Pos()) {
			names[fileOf(use.Pos())][fileOf(object.Pos())] = object.Name()
		}
	}
	return names
}

// loopOf returns the files that a file leads to and that lead to it, in order.
func loopOf(file string, names map[string]map[string]string) (loop []string) {
	for other := range reached(file, names) {
		if reached(other, names)[file] {
			loop = append(loop, other)
		}
	}
	slices.Sort(loop)
	return loop
}

func reached(file string, names map[string]map[string]string) map[string]bool {
	seen := make(map[string]bool)
	for todo := []string{file}; len(todo) > 0; {
		next := todo[0]
		todo = todo[1:]
		for other := range maps.Keys(names[next]) {
			if !seen[other] {
				seen[other] = true
				todo = append(todo, other)
			}
		}
	}
	return seen
}

// empty imports nothing of a package.
type empty struct{}

func (empty) Import(path string) (*types.Package, error) {
	p := types.NewPackage(path, filepath.Base(path))
	p.MarkComplete()
	return p, nil
}
