// Mutants plants mistakes into the library, one at a time, and wants the test that is
// named beside each to find it. It fails if one is not found. One test runs a PostgreSQL.
//
//	go -C internal/tools run ./mutants
//	go -C internal/tools run ./mutants -only vanished
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
)

// mutant is a mistake, and the test that must find it.
type mutant struct {
	name     string
	file     string   // from the root
	old, new string   // old must stand in the file exactly once, in a function
	test     string   // or one of its subtests: Test/Subtest
	pkg      string   // of the test; empty: the root
	flags    []string // for the test
}

var (
	root = flag.String("root", "../..", "the folder of the module")
	only = flag.String("only", "", "plant only mutants whose name, file or test contains this")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run() error {
	var chosen []int
	for i, m := range mutants {
		if strings.Contains(m.name+"\n"+m.file+"\n"+m.test, *only) {
			chosen = append(chosen, i)
		}
	}
	if len(chosen) == 0 {
		return fmt.Errorf("no mutant has %q in its name, its file or its test", *only)
	}
	folder, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	if err := compile(folder, chosen); err != nil {
		return err
	}

	var (
		workers sync.WaitGroup
		turn    = make(chan struct{}, runtime.GOMAXPROCS(0))
		mu      sync.Mutex // guards what follows
		failed  []error
		passes  = map[string]bool{}
	)
	try := func(name string, planted int, m mutant, want bool) {
		workers.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			found, outcome, err := m.try(folder, planted)
			mu.Lock()
			defer mu.Unlock()
			fmt.Printf("%-60s %-50s %s\n", name, m.test, outcome)
			if err == nil && found != want {
				err = errors.New(outcome)
			}
			if err != nil {
				failed = append(failed, fmt.Errorf("%s: %s: %w", name, m.test, err))
			}
		})
	}
	for _, i := range chosen {
		m := mutants[i]
		// A test that fails without a mistake finds none.
		if !passes[m.test] {
			passes[m.test] = true
			try("no mistake", none, m, false)
		}
		try(m.name, i, m, true)
	}
	workers.Wait()
	return errors.Join(failed...)
}

// compile compiles the tests of the chosen mutants into folder, with all mistakes in
// them: compiling takes far longer than most of the tests.
func compile(folder string, chosen []int) error {
	overlay, err := plant(folder)
	if err != nil {
		return err
	}
	var packages []string
	for _, i := range chosen {
		packages = append(packages, mutants[i].pkg)
	}
	slices.Sort(packages)
	for _, pkg := range slices.Compact(packages) { // one by one: two of them have one name
		build := exec.Command("go", "test", "-c", "-tags", "databases", "-overlay", overlay, "-vet=off", "-ldflags=-w", "-o", binaryOf(folder, pkg), "./"+pkg)
		build.Dir = *root
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("compiling the tests with the mistakes: %w\n%s", err, out)
		}
	}
	return nil
}

// binaryOf returns where the tests of a package are.
func binaryOf(folder, pkg string) string {
	return filepath.Join(folder, strings.ReplaceAll(pkg, "/", "_")+".test")
}

var failure = regexp.MustCompile(`(?m)^--- FAIL: (\w+) \((.*)\)$`)

// try runs the test of a mutant with the mistake of that number, and reports whether it
// has found it.
func (m mutant) try(folder string, planted int) (found bool, outcome string, err error) {
	pattern := "^" + strings.ReplaceAll(m.test, "/", "$/^") + "$"
	top, _, _ := strings.Cut(m.test, "/")
	test := exec.Command(binaryOf(folder, m.pkg), append([]string{"-test.timeout=10m", "-test.v", "-test.run", pattern}, m.flags...)...)
	test.Dir = filepath.Join(*root, m.pkg)
	test.Env = append(os.Environ(), fmt.Sprintf("%s=%d", plantedEnv, planted), "RAPID_NOFAILFILE=true")
	out, err := test.CombinedOutput()
	var exit *exec.ExitError
	switch failed := failure.FindSubmatch(out); {
	case err == nil && !strings.Contains(string(out), "--- PASS: "+m.test+" ("):
		return false, "", fmt.Errorf("the test has not run:\n%s", out)
	case err == nil:
		return false, "has passed", nil
	case !errors.As(err, &exit):
		return false, "", err
	case failed == nil || string(failed[1]) != top:
		return false, "", fmt.Errorf("something else has failed:\n%s", out)
	case planted == none:
		return true, "has failed", fmt.Errorf("it fails without a mistake:\n%s", out)
	default:
		return true, "found in " + string(failed[2]), nil
	}
}
