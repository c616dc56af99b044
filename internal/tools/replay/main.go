// Replay simulates seeds so that each is a history: the same seed with the same order
// gives the same events, one by one, on any machine and beside any load.
//
// In a process of its own a seed decides what happens, and the scheduler which of two
// goroutines that are ready at one instant runs first; so do Go's select, its maps and
// its timers, which draw from the runtime. Replay compiles the simulation to WebAssembly.
// There the runtime has one thread and nobody interrupts it, and all that it draws comes
// from the host, which is this program: from the order, a number. The clock is the host's
// too, and stands still but when it is read.
//
//	go -C internal/tools run ./replay -first 7 -seeds 1            that seed
//	go -C internal/tools run ./replay -first 7 -seeds 1 -orders 300  it, in 300 orders
//	go -C internal/tools run ./replay -mode exclusive,cooperative  ten seeds of both, each twice
//
// It fails if a seed breaks a promise, or if two replays of one seed and order differ.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
)

var (
	root   = flag.String("root", "../..", "the folder of the module")
	modes  = flag.String("mode", "promises", "which simulations, separated by commas: promises, exclusive and cooperative")
	first  = flag.Uint64("first", 1, "the first seed")
	seeds  = flag.Int("seeds", 10, "how many seeds")
	order  = flag.Uint64("order", 1, "the first order")
	orders = flag.Int("orders", 1, "how many orders of each seed")
	times  = flag.Int("times", 2, "how often to replay each seed in each order")
	whole  = flag.Bool("v", false, "print all that the simulation prints")
)

const neverTwo = `^((exclusive|cooperative)_.*|export|norace)_test\.go$`

// simulations are the packages, which files with tests they need there (the same for one
// package), and the arguments of one seed. Other tests may need what WebAssembly has not, such as etcd.
var simulations = map[string]struct {
	pkg, tests string
	args       func(seed uint64) []string
}{
	"promises": {"./simulation", `.`, func(seed uint64) []string {
		return []string{"-test.run=Promises", fmt.Sprint("-seed=", seed), "-times=1"}
	}},
	"exclusive": {".", neverTwo, func(seed uint64) []string {
		return []string{"-test.run=NeverTwoAtOnce", fmt.Sprint("-exclusive-seed=", seed), "-exclusive-times=1"}
	}},
	"cooperative": {".", neverTwo, func(seed uint64) []string {
		return []string{"-test.run=NeverTwoOnOne", fmt.Sprint("-cooperative-seed=", seed), "-cooperative-times=1"}
	}},
}

func main() {
	flag.Parse()
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "replay:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	machine := wazero.NewRuntime(ctx)
	defer machine.Close(ctx)
	wasi_snapshot_preview1.MustInstantiate(ctx, machine)
	modules := map[string]wazero.CompiledModule{} // by package
	failed := 0
	for mode := range strings.SplitSeq(*modes, ",") {
		simulation, ok := simulations[mode]
		if !ok {
			return fmt.Errorf("-mode %s: there are promises, exclusive and cooperative", mode)
		}
		if modules[simulation.pkg] == nil {
			code, err := compile(simulation.pkg, regexp.MustCompile(simulation.tests))
			if err != nil {
				return err
			}
			if modules[simulation.pkg], err = machine.CompileModule(ctx, code); err != nil {
				return err
			}
		}
		fmt.Println(mode)
		failed += replayAll(ctx, machine, modules[simulation.pkg], simulation.args)
	}
	if failed > 0 {
		return fmt.Errorf("%d seeds have failed", failed)
	}
	return nil
}

// replayAll replays all seeds in all orders, and returns how many of these have failed.
func replayAll(ctx context.Context, machine wazero.Runtime, module wazero.CompiledModule, args func(uint64) []string) (failed int) {
	type job struct{ seed, order uint64 }
	jobs := make(chan job)
	var (
		workers sync.WaitGroup
		mu      sync.Mutex // guards failed and the output
	)
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for j := range jobs {
				history, out, err := replay(ctx, machine, module, args(j.seed), j.order)
				mu.Lock()
				if *whole {
					os.Stdout.Write(out)
				}
				if err != nil {
					failed++
					fmt.Printf("seed %d, order %d: %v\n", j.seed, j.order, err)
				} else {
					fmt.Printf("seed %d, order %d: history %s, %d times\n", j.seed, j.order, history, *times)
				}
				mu.Unlock()
			}
		})
	}
	for s := range uint64(*seeds) {
		for o := range uint64(*orders) {
			jobs <- job{*first + s, *order + o}
		}
	}
	close(jobs)
	workers.Wait()
	return failed
}

// compile makes the tests of a package a WebAssembly module.
func compile(pkg string, tests *regexp.Regexp) ([]byte, error) {
	folder, err := os.MkdirTemp("", "replay")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	file, overlay := filepath.Join(folder, "tests.wasm"), filepath.Join(folder, "overlay.json")
	if err := leaveOut(pkg, tests, overlay); err != nil {
		return nil, err
	}
	build := exec.Command("go", "test", "-overlay", overlay, "-c", "-o", file, pkg)
	build.Dir = *root
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go test -c %s for wasip1: %w\n%s", pkg, err, out)
	}
	return os.ReadFile(file)
}

// leaveOut writes an overlay without the tests that are not to be compiled.
func leaveOut(pkg string, tests *regexp.Regexp, overlay string) error {
	folder, err := filepath.Abs(filepath.Join(*root, pkg))
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		return err
	}
	replace := map[string]string{}
	for _, file := range files {
		if !tests.MatchString(filepath.Base(file)) {
			replace[file] = "" // as if there were no such file
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return err
	}
	return os.WriteFile(overlay, text, 0o600)
}

var historyLine = regexp.MustCompile(`history ([0-9a-f]{16})`)

// replay runs one seed in one order several times, and wants one history.
func replay(ctx context.Context, machine wazero.Runtime, module wazero.CompiledModule, args []string, order uint64) (history string, out []byte, err error) {
	for range *times {
		out, err = once(ctx, machine, module, args, order)
		if err != nil {
			return "", out, fmt.Errorf("%w\n%s", err, out)
		}
		found := historyLine.FindSubmatch(out)
		switch {
		case found == nil:
			return "", out, fmt.Errorf("it told no history:\n%s", out)
		case history != "" && history != string(found[1]):
			return "", out, fmt.Errorf("two replays differ: history %s, and %s", history, found[1])
		}
		history = string(found[1])
	}
	return history, out, nil
}

// once runs the tests in a process of their own, so to speak, whose only chance is the order.
func once(ctx context.Context, machine wazero.Runtime, module wazero.CompiledModule, args []string, order uint64) ([]byte, error) {
	var out bytes.Buffer
	process := wazero.NewModuleConfig().WithName("").
		WithArgs(append([]string{"tests", "-test.v", "-test.timeout=0"}, args...)...).
		WithEnv("GOGC", "400"). // what it allocates is soon of no use
		WithStdout(&out).WithStderr(&out).
		WithRandSource(chanceOf(order)).
		WithNanosleep(func(int64) {}).WithOsyield(func() {}) // nobody else is there to wait for
	started, err := machine.InstantiateModule(ctx, module, process)
	if started != nil {
		_ = started.Close(ctx)
	}
	var exit *sys.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 0 {
		err = nil
	}
	return out.Bytes(), err
}

func chanceOf(order uint64) io.Reader {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(order >> (8 * i))
	}
	return rand.NewChaCha8(key)
}
