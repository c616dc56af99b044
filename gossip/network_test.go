//go:build faults && linux

package gossip_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/internal/testnet"
)

// spawn starts an instance on a host, and returns its lines as they come.
func spawn(t testing.TB, id string, expect int, seeds []string, on ...string) <-chan string {
	t.Helper()
	words := append(on, os.Args[0])
	command := exec.Command(words[0], words[1:]...)
	command.Env = append(os.Environ(), childEnv+"="+strings.Join(append([]string{id, "0.0.0.0:7946"}, seeds...), " "),
		fmt.Sprint(expectEnv, "=", expect))
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	lines, read := make(chan string, 1000), make(chan struct{})
	go func() {
		defer close(read)
		for in := bufio.NewScanner(out); in.Scan(); {
			lines <- in.Text()
		}
	}()
	t.Cleanup(func() {
		_ = command.Process.Kill() // an error says that it has ended
		<-read
		_ = command.Wait()
	})
	return lines
}

// await waits for a line.
func await(t testing.TB, lines <-chan string, want string) {
	t.Helper()
	watchdog := time.After(patience)
	var seen []string
	for {
		select {
		case line := <-lines:
			if seen = append(seen, line); line == want {
				return
			}
		case <-watchdog:
			require.FailNow(t, "it does not say it", "%s, but %q", want, seen)
		}
	}
}

// The others reach it no more where it was, and all are to be members again.
func TestInstanceComesBackWhoseAddressHasChanged(t *testing.T) {
	for _, expect := range []int{0, 3} {
		t.Run(fmt.Sprint("expect ", expect), func(t *testing.T) {
			t.Parallel()
			net := testnet.New(t, 3)
			address := func(host int, address string) {
				for _, command := range []string{"addr flush dev eth0", "addr add " + address + "/24 dev eth0", "route add default dev eth0"} {
					testnet.Run(t, append(net.On(host), append([]string{"ip"}, strings.Fields(command)...)...)...)
				}
			}
			var seeds []string
			for host := range 3 {
				address(host, testnet.Address(host))
				seeds = append(seeds, testnet.Address(host)+":7946")
			}
			var all []<-chan string
			for host := range 3 {
				all = append(all, spawn(t, fmt.Sprint(host), expect, seeds, net.On(host)...))
			}
			for host, lines := range all {
				await(t, lines, fmt.Sprintf("index %d of 3", host))
			}
			address(0, testnet.Address(100))
			await(t, all[1], "index 0 of 2")
			await(t, all[1], "index 1 of 3")
			await(t, all[0], "index 0 of 3")
			calm := time.After(10 * time.Second) // it was back for a moment every 5 s
			for {
				select {
				case line := <-all[1]:
					require.Fail(t, "it is not there to stay", line)
				case <-calm:
					return
				}
			}
		})
	}
}
