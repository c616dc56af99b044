package gossip_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/gossip"
)

// childEnv has the test's program be an instance. It holds the ID, the address and the seed.
const childEnv = "LIBCLUSTER_GOSSIP_CHILD"

// expectEnv has it be one of so many, in the real world, and say what it is told.
const expectEnv = "LIBCLUSTER_GOSSIP_EXPECT"

// child is an instance that never leaves.
func child(what string) {
	words := strings.Fields(what)
	config := libcluster.Config{Key: "gossip-test", ID: words[0]}
	if expect, err := strconv.Atoi(os.Getenv(expectEnv)); err == nil {
		config.Registry = gossip.Config{Bind: words[1], Seeds: words[2:], Expect: expect}
		config.OnRebalance = func(s libcluster.State) { fmt.Println("index", s.Index, "of", s.Total) }
	} else {
		config.Registry = at(words[1], words[2:], gossip.World{Probe: never})
	}
	c, err := libcluster.New(config)
	if err == nil {
		err = c.Join(context.Background())
	}
	fmt.Println("joined:", err)
	select {}
}

// process starts an instance in a process of its own, and returns when it has joined.
func process(t testing.TB, id, address, seed string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	command := exec.Command(self)
	command.Env = append(os.Environ(), strings.Join([]string{childEnv + "=" + id, address, seed}, " "))
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	t.Cleanup(func() {
		_ = command.Process.Kill() // an error says that it has ended
		_ = command.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "joined: <nil>\n", line)
	return command
}

func TestKilledProcessIsNoticedByItsRefusedPort(t *testing.T) {
	t.Parallel()
	where := addresses(t, 2)
	registry := keep(gossip.Config{Seeds: where[:1]}.In(gossip.World{Probe: never})) // or memberlist might notice
	a, b := joined(t, "a", registry.Config, registry.given), joined(t, "b", registry.Config, registry.given)
	killed := process(t, "c", where[1], where[0])
	sees(t, a, "a", "b", "c")
	sees(t, b, "a", "b", "c")
	eventually(t, "somebody watches it", func() bool {
		return gossip.Watches(registry.session("a"), where[1]) || gossip.Watches(registry.session("b"), where[1])
	})
	require.NoError(t, killed.Process.Kill())
	sees(t, a, "a", "b")
	sees(t, b, "a", "b")
}

func TestOneThatIsStartedAgainIsOneMember(t *testing.T) {
	t.Parallel()
	where := addresses(t, 3)
	a := joined(t, "a", at(where[0], nil, gossip.World{Probe: calm}))
	before := process(t, "c", where[1], where[0])
	sees(t, a, "a", "c")
	require.NoError(t, before.Process.Kill())
	process(t, "c", where[2], where[0]) // at another port
	sees(t, a, "a", "c")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, a.SetWorkers(ctx, 3))
	eventually(t, "a total of both", func() bool { return a.State().Total == 4 })
}

// The port of one that ends without a word is soon another's.
func TestPortOfOneThatHasEndedIsUsedAgain(t *testing.T) {
	t.Parallel()
	where := addresses(t, 2)
	registry := keep(at(where[1], where[:1], gossip.World{Probe: never}))
	a := joined(t, "a", at(where[0], nil, gossip.World{Probe: never}))
	b := newCluster(t, "b", registry.Config, registry.given)
	join(t, b)
	sees(t, a, "a", "b")
	gossip.Kill(registry.session("b"))
	joined(t, "c", registry.Config)
	sees(t, a, "a", "c")
}
