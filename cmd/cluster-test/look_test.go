package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/testetcd"
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
	var stdout, stderr bytes.Buffer
	require.Equal(t, exitOK, run(t.Context(), append([]string{"ls", "-k", key(t), "-r", etcdURL(t)}, args...), &stdout, &stderr))
	require.Empty(t, stderr.String())
	return stdout.String()
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

	put(t, "node1", `{"workers":2,"address":"10.0.0.1:80","version":"1.2","metadata":{"zone":"east"}}`)
	require.Regexp(t, `^mode direct, generation \d+, total 13
not covered:
(  orphan, [^\n]*\n){3}member  address      version  workers  indexes
node1   10.0.0.1:80  1.2            2      0-1  primary
node10                              1        2
node2                              10     3-12
$`, ls(t))
	var c census
	require.NoError(t, json.Unmarshal([]byte(ls(t, "--json")), &c))
	require.NotEmpty(t, c.Time)
	require.Positive(t, c.Generation)
	require.Equal(t, "node1", c.Primary)
	require.Equal(t, 13, c.Total)
	require.Equal(t, []there{
		{"node1", 0, 2, "", "10.0.0.1:80", "1.2", map[string]string{"zone": "east"}},
		{"node10", 2, 1, "", "", "", nil},
		{"node2", 3, 10, "", "", "", nil},
	}, c.Members)
}

// instance makes one that has not joined yet, and leaves when the test ends.
func instance(t *testing.T, id string, m libcluster.Mode, during func(libcluster.State)) *libcluster.Cluster {
	t.Helper()
	c, err := libcluster.New(libcluster.Config{
		Key: key(t), ID: id, Mode: m, Registry: libcluster.Etcd(etcdURL(t)), OnRebalance: during,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Leave(context.Background())) })
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
	node := func(id string) *running {
		return start(t, "-k", key(t), "-r", etcdURL(t), "--mode", "cooperative", "--partitions", "8", "-i", id)
	}
	first := node("n1")
	first.stderr.awaitText(t, "   instance partitions:   0-7\n")
	second := node("n2")
	second.stderr.awaitText(t, "   instance partitions:   4-7\n")
	second.stderr.awaitText(t, "   total partitions:      8\n")
	first.stderr.awaitText(t, "   instance partitions:   0-3\n")
	require.Regexp(t, `^mode cooperative, generation \d+, total 8
covered: every partition is held once
member  workers  partitions
n1            1         0-3  primary
n2            1         4-7
$`, ls(t))
	var c census
	require.NoError(t, json.Unmarshal([]byte(ls(t, "--json")), &c))
	require.Equal(t, "4-7", c.Members[1].Partitions)
}

func TestClusterWithAPlanIsWatchedBeforeAnybodyIsThere(t *testing.T) {
	p := start(t, "watch", "--mode", "planned", "-k", key(t), "-r", etcdURL(t))
	p.stdout.awaitText(t, "no members\n")
	require.NoError(t, instance(t, "a", libcluster.ModePlanned, nil).Join(t.Context()))
	p.stdout.awaitText(t, "a             1        0  primary\n")
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
	p.stdout.awaitText(t, "slow          1        0  primary\n")
	next, joined := instance(t, "b", libcluster.ModeExclusive, nil), make(chan error, 1)
	go func() { joined <- next.Join(t.Context()) }()
	p.stdout.awaitText(t, "waiting for slow since 2")
	close(release)
	require.NoError(t, <-joined)
	p.stdout.awaitText(t, "b             1        1\n")
}

func TestLookingJoinsNobody(t *testing.T) {
	node := start(t, "--json", "-k", key(t), "-r", etcdURL(t), "-i", "node")
	node.stdout.awaitPlace(t, "node", 0, 1)
	p := start(t, "watch", "-k", key(t), "-r", etcdURL(t))
	p.stdout.awaitText(t, "node          1        0  primary\n")
	require.Contains(t, ls(t), "total 1\n")
	require.Len(t, records(t, node.stdout.String()), 1)
	p.signal()
	require.Equal(t, exitOK, p.ends(t))
}

// Also a change that leaves the total as it was, of which a passive instance is not
// called back.
func TestEveryChangeIsSeenByWhoWatches(t *testing.T) {
	p := start(t, "watch", "-k", key(t), "-r", etcdURL(t))
	p.stdout.awaitText(t, "no members\n")
	put(t, "a", "2")
	p.stdout.awaitText(t, "total 2\n")
	put(t, "a", `{"workers":2,"version":"1.2"}`)
	p.stdout.awaitText(t, "a       1.2            2      0-1  primary\n")
	p.signal()
	require.Equal(t, exitOK, p.ends(t))
	require.Empty(t, p.stderr.String())
	require.Regexp(t, `^\d\d:\d\d:\d\d  mode direct, generation \d+, total 0\nno members\n\n`, p.stdout.String())
}

func TestBadCommandLineForLookingIsToldInOneLine(t *testing.T) {
	for _, c := range []struct {
		args string
		says []string
	}{
		{"", []string{"-r/--registry"}},
		{"--foo", []string{`"--foo"`}},
		{"-r http://h -i node", []string{"-i/--instance", `"node"`}},
		{"-r http://h -n 2", []string{"-n/--threads"}},
		{"-r http://h --work 1s", []string{"--work"}},
		{"-r http://h --timeout 0s", []string{"--timeout 0s", "must be positive"}},
		{"-r http://h -P", []string{"-P/--passive"}},
		{"-T 3", []string{"-T/--total 3"}},
		{"-r http://h -k a/b", []string{"-k/--key", `"a/b"`}},
		{"-r http://h --ttl 25h", []string{"--ttl 25h"}},
	} {
		for _, command := range []string{"ls", "watch"} {
			var stdout, stderr bytes.Buffer
			require.Equal(t, exitUsage, run(t.Context(), append([]string{command}, strings.Fields(c.args)...), &stdout, &stderr))
			require.Empty(t, stdout.String())
			require.Equal(t, 1, strings.Count(stderr.String(), "\n"), stderr.String())
			require.Contains(t, stderr.String(), "cluster-test: "+command+": ")
			for _, want := range c.says {
				require.Contains(t, stderr.String(), want)
			}
		}
	}
}

func TestSignalEndsLookingForARegistryThatIsNotThere(t *testing.T) {
	t.Parallel()
	p := start(t, "ls", "-r", "http://127.0.0.1:1")
	p.stderr.awaitText(t, "waiting for ")
	p.signal()
	require.Equal(t, exitOK, p.ends(t))
	require.Empty(t, p.stdout.String())
}

func TestLookingEndsWhenTheRegistryIsNotThere(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"ls", "watch", "simulate"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			p := start(t, command, "-r", "http://127.0.0.1:1", "--timeout", "6s")
			require.Equal(t, exitFailed, p.ends(t))
			require.Empty(t, p.stdout.String())
			require.Contains(t, p.stderr.String(), "cluster-test: cannot see the cluster: ")
			require.Contains(t, p.stderr.String(), "--timeout")
			require.Contains(t, p.stderr.String(), "connection refused")
			require.Contains(t, p.stderr.String(), "check -r/--registry")
		})
	}
}

func TestLookingStartsNoEtcdToFindNobodyIn(t *testing.T) {
	for _, command := range []string{"ls", "watch", "simulate"} {
		p := start(t, command, "-r", fmt.Sprintf("embedded:%d", testetcd.FreePort(t)))
		require.Equal(t, exitFailed, p.ends(t))
		require.Contains(t, p.stderr.String(), "cluster-test: cannot see the cluster: no etcd runs at 127.0.0.1:")
	}
}

func TestHelpOfLooking(t *testing.T) {
	for _, command := range []string{"ls", "watch"} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, exitOK, run(t.Context(), []string{command, "--help"}, &stdout, &stderr))
		require.Equal(t, lookUsage, stdout.String())
		require.Empty(t, stderr.String())
	}
}
