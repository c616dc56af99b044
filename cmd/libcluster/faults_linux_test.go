package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var faults = flag.Int("faults", 4, "how many random faults in exclusive mode")

// witness is a command that must be alone on its index. The kernel keeps a lock for it, and
// for its child, as long as either lives. Who does not get the lock writes a report.
func witness(folder string) {
	index := os.Getenv("LIBCLUSTER_INDEX")
	lock, err := os.OpenFile(filepath.Join(folder, "index-"+index), os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err != nil {
		report := fmt.Sprintf("index %s, generation %s: %v\n", index, os.Getenv("LIBCLUSTER_GENERATION"), err)
		_ = os.WriteFile(filepath.Join(folder, fmt.Sprint("overlap-", os.Getpid())), []byte(report), 0o600)
	}
	signal.Ignore(syscall.SIGTERM)
	child := exec.Command("sleep", "1000000")
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: rand.IntN(2) == 0} // it leaves the command's group, or does not
	child.ExtraFiles = []*os.File{lock}
	if err := child.Start(); err != nil {
		panic(err)
	}
	fmt.Printf("at %s of %s: %d %d\n", index, os.Getenv("LIBCLUSTER_TOTAL"), os.Getpid(), child.Process.Pid)
	_ = child.Wait()
	os.Exit(1)
}

// contender is an instance that is started again when it has been killed.
type contender struct {
	*process
	id    string
	total int
	acts  []int // its newest command, and the command's child
}

// acting reports whether its newest command acts under a total.
func (c *contender) acting(total int) bool {
	for {
		select {
		case line := <-c.lines:
			c.read = append(c.read, line)
			if found := regexp.MustCompile(`^at \d+ of (\d+): (\d+) (\d+)$`).FindStringSubmatch(line); found != nil {
				numbers := make([]int, 3)
				for i := range numbers {
					numbers[i], _ = strconv.Atoi(found[i+1])
				}
				c.total, c.acts = numbers[0], numbers[1:]
			}
			continue
		default:
		}
		return c.total == total && !isGone(c.acts[0]) && !isGone(c.acts[1])
	}
}

// awaitActing waits until all act under a total.
func awaitActing(t *testing.T, total int, all ...*contender) {
	t.Helper()
	require.Eventually(t, func() bool {
		return !slices.ContainsFunc(all, func(c *contender) bool { return !c.acting(total) })
	}, patience, 5*time.Millisecond, "nobody acts:\n%v", lastOf(all))
}

// lastOf shows what contenders have written, when it is printed.
type lastOf []*contender

func (l lastOf) String() (text string) {
	for _, c := range l {
		text += c.id + ":\n" + strings.Join(c.read, "\n") + "\n"
	}
	return text
}

// Two instances, each with a worker. Whatever is killed or stopped, no two commands are ever
// at one index.
func TestExclusiveIsExclusiveUnderFaults(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	self, err := os.Executable()
	require.NoError(t, err)
	folder := t.TempDir()
	flags := with(inFolder(t), "--mode", "exclusive", "--ttl", "1s", "--grace", "50ms", "--restart")
	begin := func(c *contender) {
		c.process, c.total = execute(t, with(flags, "-i", c.id, "--", self, asWitness, folder)...), 0
	}
	all := []*contender{{id: "a"}, {id: "b"}}
	begin(all[0])
	begin(all[1])
	counts := map[string]int{}
	for range *faults {
		awaitActing(t, 2, all...)
		which := random.IntN(2)
		c, other := all[which], all[1-which]
		what := []string{"program", "its group", "guard", "guard crashes", "command", "child", "stop"}[random.IntN(7)]
		counts[what]++
		switch what {
		case "program", "its group":
			pid := c.command.Process.Pid
			if what == "its group" {
				pid = -pid
			}
			require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
			<-c.ended
			if random.IntN(2) == 0 {
				awaitActing(t, 1, other)
			}
			begin(c)
		case "guard", "guard crashes":
			how := syscall.SIGKILL
			if what == "guard crashes" {
				how = syscall.SIGABRT
			}
			if guard := parentOf(c.acts[0]); guard > 1 { // on a busy machine it may just have been fenced
				_ = syscall.Kill(guard, how)
			}
			awaitGone(t, c.acts...)
		case "command":
			_ = syscall.Kill(c.acts[0], syscall.SIGKILL)
			awaitGone(t, c.acts...)
		case "child":
			_ = syscall.Kill(c.acts[1], syscall.SIGKILL)
			awaitGone(t, c.acts[0]) // which does not live without it
		case "stop":
			c.signal(t, syscall.SIGSTOP)
			awaitActing(t, 1, other)
			c.signal(t, syscall.SIGCONT)
		}
	}
	awaitActing(t, 2, all...)
	reports, err := filepath.Glob(filepath.Join(folder, "overlap-*"))
	require.NoError(t, err)
	for _, name := range reports {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		t.Errorf("two at once: %s", text)
	}
	t.Logf("faults: %v", counts)
}
