package libcluster_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

// panicking names the environment variable that has this binary be a program
// that panics, and says how.
const panicking = "LIBCLUSTER_TEST_PANIC"

// panicInRun is a program in which a function given to Run panics. All that it
// prints goes to standard error.
func panicInRun(how string) {
	registry := libclustertest.New()
	registry.Intercept(func(ctx context.Context, call libclustertest.Call) error {
		if how == "registry hangs" && call.Op == libclustertest.OpLeave {
			return gone(ctx)
		}
		err := call.Send(ctx)
		if call.Op == libclustertest.OpLeave {
			fmt.Fprintln(os.Stderr, "left")
		}
		return err
	})
	c, err := libcluster.New(libcluster.Config{
		Key: "mailer", ID: "a", Workers: 2, Registry: registry,
		OnRebalance: func(s libcluster.State) {
			fmt.Fprintf(os.Stderr, "told %d/%d\n", s.Index, s.Total)
			if !s.Active() && how == "callback hangs" {
				select {}
			}
		},
	})
	if err != nil {
		panic(err)
	}
	defer func() {
		fmt.Fprintln(os.Stderr, "Run has ended")
		os.Exit(0) // as if all were well
	}()
	_ = c.RunWorkers(context.Background(), func(ctx context.Context, worker int, _ libcluster.State) error {
		if worker == 1 {
			<-ctx.Done()
			if how == "worker hangs" {
				select {}
			}
			return nil
		}
		defer fmt.Fprintln(os.Stderr, "deferred")
		whereItPanics(boom{slow: how == "slowly"})
		return nil
	})
}

func whereItPanics(p any) { panic(p) }

// boom can take so long to be printed that the program might end before.
type boom struct{ slow bool }

func (b boom) Error() string {
	if b.slow {
		time.Sleep(100 * time.Millisecond)
	}
	return "boom"
}

func TestPanicGivesTheAssignmentBackAndEndsTheProgram(t *testing.T) {
	const warnings = `(\S+ \S+ WARN could not leave [^\n]*\n)*` // there is time to print them, or not
	for how, before := range map[string]string{
		"plainly":        "told 0/2\ndeferred\ntold -1/0\nleft\n",
		"slowly":         "told 0/2\ndeferred\ntold -1/0\nleft\n",
		"worker hangs":   "told 0/2\ndeferred\n",
		"registry hangs": "told 0/2\ndeferred\ntold -1/0\n",
		"callback hangs": "told 0/2\ndeferred\ntold -1/0\n",
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel() // some wait for a second
			out := dies(t, how)
			require.Regexp(t, `(?s)^`+before+warnings+`panic: .*boom .*whereItPanics\(`, out, "the trace is that of the panic")
		})
	}
}

// dies runs this binary as the program that panics, and returns what it prints.
func dies(t *testing.T, how string) string {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	program := exec.CommandContext(ctx, self)
	program.Env = append(os.Environ(), panicking+"="+how)
	out, err := program.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, "%s", out)
	require.Equal(t, 2, exit.ExitCode(), "that of a panic")
	return string(out)
}
