// Mutants plants one mistake after another into the library, and wants the test that is
// named beside it to find it. It fails if one is not found.
//
//	go -C internal/tools run ./mutants
//	go -C internal/tools run ./mutants -only vanished
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
)

// mutant is a mistake, and the test that must find it.
type mutant struct {
	name     string
	file     string // of the root package, or a path from the root
	old, new string // old must stand in the file exactly once
	test     string
	pkg      string   // of the test; empty: the root
	flags    []string // for the test
}

var (
	root = flag.String("root", "../..", "the folder of the module")
	only = flag.String("only", "", "plant only mutants whose name or test contains this")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run() error {
	folder, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)

	// A mutant that changes nothing must not count as found.
	nothing := mutant{"nothing", "doc.go", "\npackage libcluster\n", "\npackage libcluster // as before\n", "TestDoesNotExist", "", nil}
	if outcome, err := nothing.plant(filepath.Join(folder, "nothing")); err != nil || outcome != notFound {
		return fmt.Errorf("a mutant that changes nothing is %q, and should be %q: %v", outcome, notFound, err)
	}

	var (
		workers sync.WaitGroup
		turn    = make(chan struct{}, runtime.GOMAXPROCS(0))
		mu      sync.Mutex // guards what follows
		planted int
		failed  []error
	)
	for i, m := range mutants {
		if !strings.Contains(m.name, *only) && !strings.Contains(m.test, *only) {
			continue
		}
		planted++
		workers.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			outcome, err := m.plant(filepath.Join(folder, fmt.Sprint(i)))
			mu.Lock()
			defer mu.Unlock()
			fmt.Printf("%-50s %-50s %s\n", m.name, m.test, outcome)
			if err == nil && outcome == notFound {
				err = errors.New("the test has passed")
			}
			if err != nil {
				failed = append(failed, fmt.Errorf("%s: %s: %w", m.name, m.test, err))
			}
		})
	}
	workers.Wait()
	if planted == 0 {
		return fmt.Errorf("no mutant has %q in its name or its test", *only)
	}
	return errors.Join(failed...)
}

const notFound = "not found"

var failure = regexp.MustCompile(`(?m)^--- FAIL: (\w+) \((.*)\)$`)

// plant runs the test with the mistake in place of the code, and says what came of it.
// The tree stays as it is: the compiler reads another file in the place of one.
func (m mutant) plant(folder string) (outcome string, err error) {
	file, err := filepath.Abs(filepath.Join(*root, m.file))
	if err != nil {
		return "", err
	}
	code, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	if n := bytes.Count(code, []byte(m.old)); n != 1 {
		return "", fmt.Errorf("this stands %d times in %s, and should once: %s", n, m.file, m.old)
	}
	if err := os.Mkdir(folder, 0o700); err != nil {
		return "", err
	}
	mutated, overlay := filepath.Join(folder, "mutated.go"), filepath.Join(folder, "overlay.json")
	if err := os.WriteFile(mutated, bytes.Replace(code, []byte(m.old), []byte(m.new), 1), 0o600); err != nil {
		return "", err
	}
	text, err := json.Marshal(map[string]any{"Replace": map[string]string{file: mutated}})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(overlay, text, 0o600); err != nil {
		return "", err
	}

	args := []string{"test", "-overlay", overlay, "-vet=off", "-count=1", "-timeout=10m", "-run", "^" + m.test + "$"}
	args = append(append(args, "./"+m.pkg), m.flags...)
	test := exec.Command("go", args...)
	test.Dir = *root
	out, err := test.CombinedOutput()
	var exit *exec.ExitError
	switch found := failure.FindSubmatch(out); {
	case err == nil:
		return notFound, nil
	case !errors.As(err, &exit):
		return "", err
	case found == nil || string(found[1]) != m.test:
		return "", fmt.Errorf("something else has failed:\n%s", out)
	default:
		return "found in " + string(found[2]), nil
	}
}
