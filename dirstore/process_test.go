package dirstore_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/dirstore"
	"github.com/libcluster/libcluster/kv"
)

var (
	crashes = flag.Int("crashes", 30, "how many processes to kill in the middle of what they do")
	stops   = flag.Int("stops", 12, "how many processes to stop in the middle of what they do")
)

// roleVariable has the test's own binary be another process.
const roleVariable = "DIRSTORE_TEST_ROLE"

// role is what another process does.
type role struct {
	Dir   string
	Keep  int64
	Times int            // how often it does everything
	At    int            // at which of its calls of files it sends itself a signal; 0: never
	With  syscall.Signal // which
	Only  bool           // it counts, and has no lease
}

// play counts, and has a lease come and go, so often as it is told. It says on stdout what
// it has counted.
func play(text string) {
	var r role
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		log.Fatal(err)
	}
	store := dirstore.Dir(r.Dir)
	store.Keep(r.Keep)
	store.Poll = time.Hour // so that it makes as many calls each time
	calls := 0
	var mu sync.Mutex
	store.Around(func(_, _ string, do func() error) error {
		mu.Lock()
		calls++
		hit := calls == r.At
		mu.Unlock()
		if hit {
			_ = syscall.Kill(os.Getpid(), r.With)
			_, _ = os.Stdin.Read(make([]byte, 1)) // the signal takes its time
		}
		return do()
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	space, err := store.Open(ctx, "space")
	if err != nil {
		log.Fatal(err)
	}
	for range r.Times {
		if err := r.once(ctx, space); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println("end", calls)
}

func (r role) once(ctx context.Context, space kv.Space) error {
	if r.Only {
		_, err := count(ctx, space, "n")
		return err
	}
	owner := randomOwner()
	if _, err := space.Begin(ctx, owner, 300*time.Millisecond); err != nil {
		return known(err)
	}
	_, err := space.Commit(ctx, kv.Tx{Put: []kv.Record{{Key: "owned", Owner: owner}}})
	if err := known(err); err != nil {
		return err
	}
	switch n, err := count(ctx, space, "n"); {
	case err == nil:
		fmt.Println("counted", n)
	case known(err) == nil:
		fmt.Println("perhaps", n)
	default:
		return err
	}
	if _, err := space.Renew(ctx, owner); known(err) != nil {
		return err
	}
	return known(space.End(ctx, owner))
}

// known returns an error that must not be. A process that was stopped has lost its lease, or
// does not know what has become of a commit.
func known(err error) error {
	if errors.Is(err, kv.ErrEnded) || errors.Is(err, dirstore.ErrUnknown) {
		return nil
	}
	return err
}

// process is another process.
type process struct {
	*exec.Cmd
	in  io.WriteCloser
	out io.Reader
}

func start(t testing.TB, r role) *process {
	t.Helper()
	text, err := json.Marshal(r)
	require.NoError(t, err)
	p := &process{Cmd: exec.CommandContext(patience(t), os.Args[0])}
	p.Env = append(os.Environ(), roleVariable+"="+string(text))
	p.Stderr = os.Stderr
	p.in, err = p.StdinPipe()
	require.NoError(t, err)
	p.out, err = p.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.Start())
	return p
}

// counted returns what a process has counted until its end, and what it perhaps has.
func (p *process) counted(t testing.TB) (counted, perhaps []int, calls int) {
	t.Helper()
	for lines := bufio.NewScanner(p.out); lines.Scan(); {
		what, number, _ := strings.Cut(lines.Text(), " ")
		n, err := strconv.Atoi(number)
		require.NoError(t, err, "%q", lines.Text())
		switch what {
		case "counted":
			counted = append(counted, n)
		case "perhaps":
			perhaps = append(perhaps, n)
		case "end":
			calls = n
		}
	}
	return counted, perhaps, calls
}

func TestSwapsOfSeveralProcessesAreNeitherLostNorForked(t *testing.T) {
	t.Parallel()
	const processes, times = 4, 60
	for _, keep := range []int64{3, 1024} {
		t.Run(fmt.Sprint("keeping ", keep), func(t *testing.T) {
			dir := shm(t)
			var all []*process
			for range processes {
				all = append(all, start(t, role{Dir: dir, Keep: keep, Times: times}))
			}
			made, perhaps := map[int]bool{}, map[int]bool{}
			for _, p := range all {
				counted, unknown, _ := p.counted(t)
				require.NoError(t, p.Wait())
				for _, n := range counted {
					require.False(t, made[n], "two processes have made %d", n)
					made[n] = true
				}
				for _, n := range unknown {
					perhaps[n] = true
				}
			}
			n := number(t, open(t, dirstore.Dir(dir)))
			require.GreaterOrEqual(t, n, len(made))
			for i := range n {
				require.True(t, made[i+1] || perhaps[i+1], "nobody has made %d of %d", i+1, n)
			}
			if keep > 100 {
				require.Equal(t, processes*times, n, "nobody has slept for so long")
			}
		})
	}
}

// callsOf returns how many calls a process makes if nobody disturbs it.
func callsOf(t *testing.T, r role) int {
	t.Helper()
	p := start(t, r)
	_, _, calls := p.counted(t)
	require.NoError(t, p.Wait())
	return calls
}

func TestProcessThatIsKilledAnywhereHarmsNobody(t *testing.T) {
	t.Parallel()
	dir := shm(t)
	store := dirstore.Dir(dir)
	store.Keep(8)
	store.Poll = 20 * time.Millisecond
	r := role{Dir: dir, Keep: 8, Times: 3}
	calls := callsOf(t, r)
	space := open(t, store)
	for i := range *crashes {
		before := number(t, space)
		r.At, r.With = 1+rand.IntN(calls), syscall.SIGKILL
		if i < calls && *crashes > calls {
			r.At = 1 + i // each once
		}
		p := start(t, r)
		counted, _, _ := p.counted(t)
		err := p.Wait()
		n, e := count(patience(t), space, "n")
		require.NoError(t, e, "killed at call %d: %v", r.At, err)
		require.Contains(t, []int{before + len(counted) + 1, before + len(counted) + 2}, n, "killed at call %d", r.At)
		for at, m := range counted {
			require.Equal(t, before+at+1, m)
		}
		if i%10 == 0 { // what was killed loses its lease
			require.Eventually(t, func() bool { return get(t, space, "owned").Version == 0 }, watchdog, store.Poll)
		}
	}
	entries, err := os.ReadDir(dir + "/space")
	require.NoError(t, err)
	require.Less(t, len(entries), 20+2**crashes, "old numbers are removed")
}

// number returns what has been counted.
func number(t testing.TB, space kv.Space) int {
	t.Helper()
	n, _ := strconv.Atoi(string(get(t, space, "n").Value))
	return n
}

func TestProcessThatIsStoppedAnywhereHoldsUpNobody(t *testing.T) {
	t.Parallel()
	dir := shm(t)
	store := dirstore.Dir(dir)
	store.Keep(4)
	r := role{Dir: dir, Keep: 4, Times: 2}
	calls := callsOf(t, r)
	r.Times = 4 // to come to as many calls for sure
	space := open(t, store)
	for i := range *stops {
		before := number(t, space)
		r.At, r.With = 1 + i*calls / *stops, syscall.SIGSTOP
		p := start(t, r)
		var status syscall.WaitStatus
		for !status.Stopped() {
			_, err := syscall.Wait4(p.Process.Pid, &status, syscall.WUNTRACED, nil)
			require.NoError(t, err)
			require.False(t, status.Exited(), "it makes fewer calls than %d", r.At)
		}
		const mine = 40 // more than are kept
		for range mine {
			_, err := count(patience(t), space, "n")
			require.NoError(t, err, "stopped at call %d", r.At)
		}
		require.NoError(t, p.Process.Signal(syscall.SIGCONT))
		require.NoError(t, p.in.Close())
		counted, perhaps, _ := p.counted(t)
		require.NoError(t, p.Wait(), "stopped at call %d", r.At)
		n := number(t, space)
		require.GreaterOrEqual(t, n, before+mine+len(counted), "stopped at call %d: %d and %d", r.At, counted, perhaps)
		require.LessOrEqual(t, n, before+mine+len(counted)+len(perhaps), "stopped at call %d", r.At)
	}
}
