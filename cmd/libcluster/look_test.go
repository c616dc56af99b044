package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/testcommand"
	"github.com/libcluster/libcluster/internal/testhost"
)

// put writes a member's record, as an instance or a person would.
func put(t *testing.T, id, record string) {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{etcdURL(t)}})
	require.NoError(t, err)
	defer client.Close()
	_, err = client.Put(t.Context(), "/"+key(t)+"/production/"+id, record)
	require.NoError(t, err)
}

func ls(t *testing.T, args ...string) string {
	t.Helper()
	return printed(t, append([]string{"ls", "-k", key(t), "-r", etcdURL(t)}, args...)...)
}

func TestMembersAreListedWithWhatTheyHold(t *testing.T) {
	require.Regexp(t, `^mode direct, generation \d+, total 0\nno members\n$`, ls(t))
	put(t, "node10", "1")
	put(t, "node1", "2")
	put(t, "node2", "10")
	require.Regexp(t, `^mode direct, generation \d+, total 13
not covered:
  orphan, indexes 0 to 1, node1: its record has no lease[^\n]*
  orphan, index 2, node10: [^\n]*
  orphan, indexes 3 to 12, node2: [^\n]*
member  workers  indexes
node1         2      0-1  primary
node10        1        2
node2        10     3-12
$`, ls(t))

	put(t, "node1", `{"workers":2,"address":"10.0.0.1:80","version":"1.2","metadata":{"zone":"east","rack":"3"}}`)
	require.NotContains(t, ls(t), "address")
	require.Regexp(t, `^mode direct, generation \d+, total 13
not covered:
(  orphan, [^\n]*\n){3}member  address      version  metadata          workers  indexes
node1   10.0.0.1:80  1.2      rack=3,zone=east        2      0-1  primary
node10                                                1        2
node2                                                10     3-12
$`, ls(t, "-o", "wide"))
	var c census
	require.NoError(t, json.Unmarshal([]byte(ls(t, "-o", "json")), &c))
	require.NotEmpty(t, c.Time)
	require.Positive(t, c.Generation)
	require.Equal(t, "node1", c.Primary)
	require.Equal(t, 13, c.Total)
	require.Equal(t, []there{
		{"node1", 0, 2, "", "10.0.0.1:80", "1.2", map[string]string{"zone": "east", "rack": "3"}},
		{"node10", 2, 1, "", "", "", nil},
		{"node2", 3, 10, "", "", "", nil},
	}, c.Members)
}

// instance makes an instance that has not joined yet. The instance leaves when the test ends.
func instance(t *testing.T, id string, m libcluster.Mode, during func(libcluster.State)) *libcluster.Cluster {
	t.Helper()
	c, err := libcluster.New(libcluster.Config{
		Key: key(t), ID: id, Mode: m, Registry: libcluster.Etcd(etcdURL(t)), OnRebalance: during,
	})
	require.NoError(t, err)
	t.Cleanup(func() { leave(t, c) })
	return c
}

func TestClusterWithAPlanIsSeenWithoutSayingSo(t *testing.T) {
	require.NoError(t, instance(t, "b", libcluster.ModePlanned, nil).Join(t.Context()))
	require.NoError(t, instance(t, "a", libcluster.ModePlanned, nil).Join(t.Context()))
	require.Regexp(t, `^mode planned, generation \d+, total 2
covered: every index is held once
member  workers  indexes
b             1        0  primary
a             1        1
$`, ls(t))
}

func TestPartitionsOfAClusterAreSeenWithoutSayingHowManyThereAre(t *testing.T) {
	for _, id := range []string{"n1", "n2"} {
		c, err := libcluster.New(libcluster.Config{
			Key: key(t), ID: id, Mode: libcluster.ModeCooperative, Partitions: 8, Registry: libcluster.Etcd(etcdURL(t)),
		})
		require.NoError(t, err)
		t.Cleanup(func() { leave(t, c) })
		require.NoError(t, c.Join(t.Context()))
	}
	p := start(t, "watch", "-k", key(t), "-r", etcdURL(t))
	p.Stdout.AwaitText(t, ` total 8
covered: every partition is held once
member  workers  partitions
n1            1         0-3  primary
n2            1         4-7
`)
	var c census
	require.NoError(t, json.Unmarshal([]byte(ls(t, "-o", "json")), &c))
	require.Equal(t, "4-7", c.Members[1].Partitions)
}

func TestClusterWithAPlanIsWatchedBeforeAnybodyIsThere(t *testing.T) {
	p := start(t, "watch", "--mode", "planned", "-k", key(t), "-r", etcdURL(t))
	p.Stdout.AwaitText(t, "no members\n")
	require.NoError(t, instance(t, "a", libcluster.ModePlanned, nil).Join(t.Context()))
	p.Stdout.AwaitText(t, "a             1        0  primary\n")
}

func TestOneWhoIsWaitedForIsNamed(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	slow := instance(t, "slow", libcluster.ModeExclusive, func(s libcluster.State) {
		if !s.Active() {
			<-release
		}
	})
	require.NoError(t, slow.Join(t.Context()))
	p := start(t, "watch", "-k", key(t), "-r", etcdURL(t))
	p.Stdout.AwaitText(t, "slow          1        0  primary\n")
	next, joined := instance(t, "b", libcluster.ModeExclusive, nil), make(chan error, 1)
	go func() { joined <- next.Join(t.Context()) }()
	p.Stdout.AwaitText(t, "waiting for slow since 2")
	close(release)
	require.NoError(t, <-joined)
	p.Stdout.AwaitText(t, "b             1        1\n")
}

func TestLookingJoinsNobody(t *testing.T) {
	var told atomic.Int32
	require.NoError(t, instance(t, "node", libcluster.ModeDirect, func(libcluster.State) { told.Add(1) }).Join(t.Context()))
	p := start(t, "watch", "-k", key(t), "-r", etcdURL(t))
	p.Stdout.AwaitText(t, "node          1        0  primary\n")
	require.Contains(t, ls(t), "total 1\n")
	require.EqualValues(t, 1, told.Load())
	p.Signal()
	require.Equal(t, 0, p.Ends(t))
}

// Also a change that leaves the total as it was, of which a passive instance is not
// called back.
func TestEveryChangeIsSeenByWhoWatches(t *testing.T) {
	p := start(t, "watch", "-o", "wide", "-k", key(t), "-r", etcdURL(t))
	p.Stdout.AwaitText(t, "no members\n")
	put(t, "a", "2")
	p.Stdout.AwaitText(t, "total 2\n")
	put(t, "a", `{"workers":2,"version":"1.2"}`)
	p.Stdout.AwaitText(t, "a       1.2            2      0-1  primary\n")
	p.Signal()
	require.Equal(t, 0, p.Ends(t))
	require.Empty(t, p.Stderr.String())
	require.Regexp(t, `^\d\d:\d\d:\d\d  mode direct, generation \d+, total 0\nno members\n\n`, p.Stdout.String())
}

func TestBadCommandLineForLookingIsToldInOneLine(t *testing.T) {
	for _, c := range []struct {
		args string
		says []string
	}{
		{"", []string{"-k/--key", "LIBCLUSTER_KEY"}},
		{"-k m", []string{"-r/--registry", "LIBCLUSTER_REGISTRY"}},
		{"--foo", []string{`"--foo"`}},
		{"-k m -r http://h -i node", []string{`"-i"`}},
		{"-k m -r localhost:2379", []string{"-r/--registry", "did you mean http://localhost:2379?"}},
		{"-k m -r http://h --timeout 0s", []string{"--timeout 0s", "must be positive"}},
		{"-k m -r http://h -o yaml", []string{"-o/--output", `"yaml"`, "table, wide or json"}},
		{"-k a/b -r http://h", []string{"-k/--key", `"a/b"`}},
		{"-k m -r http://h --env=", []string{"-e/--env", "empty"}},
	} {
		for _, command := range lookers {
			t.Run(command+" "+c.args, func(t *testing.T) {
				status, text := failing(t, append(strings.Fields(command), strings.Fields(c.args)...)...)
				require.Equal(t, exitUsage, status, text)
				require.Equal(t, 1, strings.Count(text, "\n"), text)
				require.Contains(t, text, "; try 'libcluster "+strings.Fields(command)[0]+" --help'\n")
				for _, want := range c.says {
					require.Contains(t, text, want)
				}
			})
		}
	}
}

// lookers are the commands that look at a cluster, each with the arguments that it needs.
var lookers = []string{"ls", "watch", "check", "owner account-42"}

// failing runs the program, which shall fail, and returns its status and what it says.
func failing(t *testing.T, args ...string) (status int, text string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status = run(t.Context(), args, &stdout, &stderr)
	require.NotZero(t, status, "%s", &stdout)
	require.Empty(t, stdout.String())
	return status, said(stderr.String())
}

func TestSignalEndsLookingForARegistryThatIsNotThere(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]int{"ls": exitUnseen, "watch": 0} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			p := start(t, command, "-k", key(t), "-r", "http://127.0.0.1:1")
			p.Stderr.AwaitText(t, "libcluster: waiting for ")
			p.Signal()
			require.Equal(t, want, p.Ends(t))
			require.Empty(t, p.Stdout.String())
			require.Equal(t, want != 0, strings.Contains(p.Stderr.String(), "libcluster: told to end before the cluster was seen\n"))
		})
	}
}

func TestLookingEndsWhenTheRegistryIsNotThere(t *testing.T) {
	t.Parallel()
	for _, command := range append(lookers, "simulate", "clusters") {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			p := start(t, append(strings.Fields(command), "-k", "m", "-r", "http://127.0.0.1:1", "--timeout", "6s")...)
			require.Equal(t, exitUnseen, p.Ends(t))
			require.Empty(t, p.Stdout.String())
			for _, want := range []string{"libcluster: cannot see the cluster: ", "connection refused", "check -r/--registry"} {
				require.Contains(t, p.Stderr.String(), want)
			}
		})
	}
}

func TestLookingStartsNoEtcdToFindNobodyIn(t *testing.T) {
	for _, command := range append(lookers, "simulate", "clusters") {
		status, text := failing(t, append(strings.Fields(command), "-k", "m", "-r", fmt.Sprintf("embedded:%d", testhost.FreePort(t)))...)
		require.Equal(t, exitUnseen, status)
		require.Contains(t, text, "libcluster: cannot see the cluster: no etcd runs at 127.0.0.1:")
	}
}

func TestLookingMakesNoFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "none")
	for _, scheme := range []string{"sqlite:", "dir:"} {
		for _, command := range lookers {
			status, text := failing(t, append(strings.Fields(command), "-k", "m", "-r", scheme+file)...)
			require.Equal(t, exitUnseen, status)
			require.Contains(t, text, "libcluster: cannot see the cluster: ")
			require.NoFileExists(t, file)
			require.NoDirExists(t, file)
		}
	}
}

func TestWhatOthersWroteReachesNoTerminalAsItIs(t *testing.T) {
	for _, mode := range []string{"direct", "planned"} {
		t.Run(mode, func(t *testing.T) {
			testcommand.Hostile(t, etcdURL(t), key(t), mode)
			for _, format := range []string{"wide", "json"} {
				p := start(t, "watch", "-v", "--mode", mode, "-k", key(t), "-r", etcdURL(t), "-o", format)
				p.Stdout.AwaitText(t, "generation")
				p.Stdout.Await(t, "the address", func(text string) bool { return len(text) > 50 })
				p.Signal()
				require.Equal(t, 0, p.Ends(t))
				require.Contains(t, p.Stdout.String(), `a\`)
				testcommand.RequirePlain(t, p.Stdout.String())
				testcommand.RequirePlain(t, p.Stderr.String())
			}
		})
	}
}

type closed struct{}

func (closed) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestOutputThatCannotBeWrittenIsAFailure(t *testing.T) {
	put(t, "a", "1")
	for _, command := range lookers {
		var stderr bytes.Buffer
		status := run(t.Context(), append(strings.Fields(command), "-k", key(t), "-r", etcdURL(t)), closed{}, &stderr)
		require.Equal(t, exitFailed, status)
		require.Equal(t, "libcluster: cannot write to standard output: file already closed\n", stderr.String())
	}
}

// LIBCLUSTER_PARTITIONS is in the environment of each command of exec.
func TestLookingTakesFromTheEnvironmentWhereTheClusterIs(t *testing.T) {
	put(t, "a", "1")
	t.Setenv("LIBCLUSTER_KEY", key(t))
	t.Setenv("ETCDCTL_ENDPOINTS", strings.TrimPrefix(etcdURL(t), "http://"))
	t.Setenv("LIBCLUSTER_PARTITIONS", "8")
	for _, command := range lookers {
		p := start(t, append(strings.Fields(command), "-v")...)
		if command == "watch" {
			p.Stdout.AwaitText(t, "total 1\n")
			p.Signal()
		}
		p.Ends(t)
		require.NotEmpty(t, p.Stdout.String(), "%s", p.Stderr)
		require.Contains(t, p.Stderr.String(), "libcluster: --key is taken from LIBCLUSTER_KEY\n")
		require.Contains(t, p.Stderr.String(), "libcluster: --registry is taken from ETCDCTL_ENDPOINTS\n")
	}

	t.Setenv("LIBCLUSTER_REGISTRY", "localhost:2379")
	t.Setenv("LIBCLUSTER_TIMEOUT", "soon")
	_, text := failing(t, "ls")
	require.Contains(t, text, `LIBCLUSTER_TIMEOUT: --timeout "soon": must be a duration`)
	_, text = failing(t, "ls", "--timeout", "1s")
	require.Contains(t, text, "-r/--registry (LIBCLUSTER_REGISTRY)")
	require.Contains(t, text, "did you mean http://localhost:2379?")
}

func TestShellCompletesCommandsAndValues(t *testing.T) {
	for line, want := range map[string][]string{
		"":                            {"ls", "watch", "owner", "check", "simulate", "exec", "version"},
		"ls --output ":                formats,
		"watch -o j":                  {"json"},
		"ls --mode ":                  modeNames,
		"simulate --rolling-restart=": {placesFreed, placesKept},
	} {
		var stdout, stderr bytes.Buffer
		require.Zero(t, run(t.Context(), append([]string{"__complete"}, strings.Split(line, " ")...), &stdout, &stderr))
		for _, one := range want {
			require.Regexp(t, `(?m)^(--rolling-restart=)?`+one+`\b`, stdout.String(), line)
		}
	}
}
