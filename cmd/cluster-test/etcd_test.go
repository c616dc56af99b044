package main

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap/zapcore"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/embedded"
	"github.com/libcluster/libcluster/internal/between"
	"github.com/libcluster/libcluster/internal/operator"
	"github.com/libcluster/libcluster/internal/registryflag"
)

// This is the original's example, and its picture of the ranges.
func TestThreeNodesOfTwoOneAndFourThreads(t *testing.T) {
	args := []string{"--json", "-k", key(t), "-r", etcdURL(t)}
	one := start(t, append(args, "-i", "node1", "-n", "2")...)
	one.stderr.AwaitText(t, "sleeping until terminated\n")
	two := start(t, append(args, "-i", "node2")...)
	two.stdout.awaitPlace(t, "node2", 2, 3)
	one.stdout.awaitPlace(t, "node1", 0, 3)
	three := start(t, append(args, "-i", "node3", "-n", "4")...)
	one.stdout.awaitPlace(t, "node1", 0, 7)
	two.stdout.awaitPlace(t, "node2", 2, 7)
	three.stdout.awaitPlace(t, "node3", 3, 7)

	one.Signal()
	require.Equal(t, exitOK, one.Ends(t))
	two.stdout.awaitPlace(t, "node2", 0, 5)
	three.stdout.awaitPlace(t, "node3", 1, 5)
	require.Equal(t, `cluster-test: cluster has re-balanced:
   instance index:        0
   instance thread count: 2
   total thread count:    2
cluster-test: cluster joined; sleeping until terminated
cluster-test: cluster has re-balanced:
   instance index:        0
   instance thread count: 2
   total thread count:    3
cluster-test: cluster has re-balanced:
   instance index:        0
   instance thread count: 2
   total thread count:    7
cluster-test: signal received, will terminate
cluster-test: will now leave the cluster
cluster-test: cluster has re-balanced:
   instance index:        -1
   instance thread count: 2
   total thread count:    5
cluster-test: successfully left the cluster
`, one.stderr.String())

	var events []string
	for _, r := range records(t, one.stdout.String()) {
		events = append(events, r.Event)
	}
	require.Equal(t, []string{"joined", "rebalanced", "rebalanced", "left"}, events)
}

func TestNodesRunInOneProcessAndEveryLineSaysWhich(t *testing.T) {
	p := start(t, "--json", "-k", key(t), "-r", etcdURL(t), "-i", "node", "--nodes", "3", "-n", "2,1,4")
	p.stdout.awaitPlace(t, "node1", 0, 7)
	p.stdout.awaitPlace(t, "node2", 2, 7)
	p.stdout.awaitPlace(t, "node3", 3, 7)
	p.Signal()
	require.Equal(t, exitOK, p.Ends(t))

	left := map[string]bool{}
	for _, r := range records(t, p.stdout.String()) {
		if r.Event == "left" {
			left[r.Instance] = true
		}
	}
	require.Equal(t, map[string]bool{"node1": true, "node2": true, "node3": true}, left)
	for line := range strings.Lines(p.stderr.String()) {
		if line == "cluster-test: signal received, will terminate\n" {
			continue // that is to the process
		}
		require.Regexp(t, `^cluster-test: node[123]: .`, line)
	}
}

func TestNodesHaveRandomIDsUnlessGiven(t *testing.T) {
	p := start(t, "--json", "-k", key(t), "-r", etcdURL(t), "--nodes", "2")
	p.stdout.Await(t, "two instances with a total of 2", func(text string) bool {
		seen := map[string]bool{}
		for _, r := range records(t, text) {
			if r.Total == 2 {
				seen[r.Instance] = len(r.Instance) == 32
			}
		}
		return len(seen) == 2
	})
}

func TestPassiveInstanceShowsTotalsAndIsNotCounted(t *testing.T) {
	args := []string{"--json", "-k", key(t), "-r", etcdURL(t)}
	member := start(t, append(args, "-i", "member", "-n", "2")...)
	member.stdout.awaitPlace(t, "member", 0, 2)
	passive := start(t, append(args, "-i", "passive", "-P")...)
	passive.stdout.awaitPlace(t, "passive", -1, 2)
	other := start(t, append(args, "-i", "other")...)
	passive.stdout.awaitPlace(t, "passive", -1, 3)
	member.stdout.awaitPlace(t, "member", 0, 3)
	other.Signal()
	require.Equal(t, exitOK, other.Ends(t))
	passive.stdout.awaitPlace(t, "passive", -1, 2)
	passive.Signal()
	require.Equal(t, exitOK, passive.Ends(t))
	require.Contains(t, passive.stderr.String(), "successfully left the cluster\n")

	var events []string
	for _, r := range records(t, passive.stdout.String()) {
		events = append(events, r.Event)
	}
	require.Equal(t, []string{"joined", "rebalanced", "rebalanced", "left"}, events)
}

func TestUnreachableEtcdIsNamedWithItsLastErrorAndWhatToChange(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		user string
	}{
		{nil, "without a user"},
		{[]string{"--user", "root:secret"}, `user "root"`}, // logs in before anything else
	} {
		t.Run(c.user, func(t *testing.T) {
			t.Parallel()
			p := start(t, append(c.args, "-k", "mailer", "-r", "http://127.0.0.1:1,http://127.0.0.1:2")...)
			p.stderr.AwaitText(t, "cluster-test: waiting for etcd at http://127.0.0.1:1,http://127.0.0.1:2")
			p.stderr.AwaitText(t, "cluster-test: waiting for etcd at http://127.0.0.1:1,http://127.0.0.1:2: ")
			p.Signal()
			require.Equal(t, exitOK, p.Ends(t))
			for _, part := range []string{"connection refused", "key /mailer/production/", c.user, "check -r/--registry"} {
				require.Contains(t, p.stderr.String(), part)
			}
			require.NotContains(t, p.stderr.String(), "secret")
			require.NotContains(t, p.stderr.String(), "leave")
		})
	}
}

// mute is a registry that does not answer.
type mute struct{ libcluster.Registry }

func newMute() mute {
	return mute{between.Registry{Registry: libcluster.Static(0, 1), Joining: func(ctx context.Context, _ libcluster.Member, _ libcluster.Membership,
	) (libcluster.Session, time.Duration, error) {
		<-ctx.Done()
		return nil, 0, ctx.Err()
	}}}
}

func (mute) String() string { return "mute" }

func TestWaitingIsToldSoonAndEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := newConsole()
		nodes, err := newNodes(options{
			key: "test", env: "test", mode: libcluster.ModeDirect, threads: []int{1}, registry: &registryflag.Registry{Registry: newMute()},
		}, newTranscript(&output{stderr: zapcore.AddSync(out), stdout: zapcore.AddSync(out)}))
		require.NoError(t, err)
		until, end := context.WithCancel(t.Context())
		failed := make(chan bool, 1)
		go func() { failed <- runNodes(until, func() { t.Error("the others were ended") }, nodes) }()
		time.Sleep(operator.WaitNotice)
		synctest.Wait()
		require.Equal(t, "cluster-test: waiting for mute …\n", out.String())
		require.LessOrEqual(t, operator.WaitNotice, 5*time.Second)

		time.Sleep(time.Minute)
		signalled := time.Now()
		end()
		require.False(t, <-failed)
		require.Zero(t, time.Since(signalled))
	})
}

func TestInstanceWhoseIDIsTakenEndsWithOneLine(t *testing.T) {
	args := []string{"--json", "-k", key(t), "-r", etcdURL(t), "-i", "same", "--ttl", unfenced}
	older := start(t, args...)
	older.stdout.awaitPlace(t, "same", 0, 1)
	newer := start(t, append(args, "-n", "2")...)
	newer.stdout.awaitPlace(t, "same", 0, 2)
	require.Equal(t, exitFailed, older.Ends(t))
	require.Equal(t, 1, strings.Count(older.stderr.String(), "taken"))
	require.Contains(t, older.stderr.String(),
		`cluster-test: another instance has taken over the ID "same": each instance needs an ID of its own`+"\n")
	all := records(t, older.stdout.String())
	require.Equal(t, "fenced", all[len(all)-2].Event)
	require.Equal(t, "left", all[len(all)-1].Event)
	newer.stdout.awaitPlace(t, "same", 0, 2)
}

func TestOneTakenNodeDoesNotEndTheOthers(t *testing.T) {
	args := []string{"--json", "-k", key(t), "-r", etcdURL(t), "--ttl", unfenced, "-i"}
	nodes := start(t, append(args, "node", "--nodes", "2")...)
	nodes.stdout.awaitPlace(t, "node2", 1, 2)
	start(t, append(args, "node1", "-n", "3")...)
	nodes.stderr.AwaitText(t, `cluster-test: node1: another instance has taken over the ID "node1"`)
	nodes.stdout.awaitPlace(t, "node2", 3, 4)
	nodes.Signal()
	require.Equal(t, exitFailed, nodes.Ends(t))
	require.Contains(t, nodes.stderr.String(), "cluster-test: node2: successfully left the cluster\n")
}

// takes is a registry where somebody else takes one ID over while it joins.
func takes(on libcluster.Registry, id string) libcluster.Registry {
	return between.Registry{Registry: on, Joining: func(ctx context.Context, m libcluster.Member, below libcluster.Membership,
	) (libcluster.Session, time.Duration, error) {
		if m.ID == id {
			return nil, 0, libcluster.Permanent(libcluster.ErrInstanceTaken)
		}
		return below.Join(ctx, m)
	}}
}

func TestNodeTakenWhileItJoinsDoesNotEndTheOthersEither(t *testing.T) {
	out, places := newConsole(), newConsole()
	nodes, err := newNodes(options{
		key:      "test",
		env:      "test",
		mode:     libcluster.ModeDirect,
		instance: "node",
		nodes:    true,
		threads:  []int{1, 1},
		registry: &registryflag.Registry{Registry: takes(libcluster.Static(0, 1), "node1")},
	}, newTranscript(&output{stderr: zapcore.AddSync(out), stdout: zapcore.AddSync(places), json: true}))
	require.NoError(t, err)

	until, end := context.WithCancel(t.Context())
	failed := make(chan bool, 1)
	go func() { failed <- runNodes(until, func() { t.Error("the others were ended") }, nodes) }()
	t.Cleanup(func() {
		end()
		require.True(t, <-failed)
	})
	out.AwaitText(t, `cluster-test: node1: another instance has taken over the ID "node1": each instance needs an ID of its own`+"\n")
	out.AwaitText(t, "cluster-test: node2: cluster joined; sleeping until terminated\n")
	require.NotContains(t, out.String(), "failed to join")
	places.awaitPlace(t, "node2", 0, 1)
	require.NotContains(t, places.String(), "node1", "who has never joined has not left")
}

func TestWrongPasswordEndsWithOneLine(t *testing.T) {
	server, err := embedded.Start(t.Context(), embedded.Config{Fast: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	enableUsers(t, server.Endpoint())

	// Of a user that there is, etcd checks the password with bcrypt, which
	// under the race detector takes longer than a request may.
	p := start(t, "-r", server.Endpoint(), "--user", "nobody:wrong")
	require.Equal(t, exitFailed, p.Ends(t))
	require.Regexp(t, `^cluster-test: failed to join cluster: [^\n]*invalid user ID or password [^\n]*user "nobody"; check --user\)\n$`, p.stderr.String())

	p = start(t, "-r", server.Endpoint())
	require.Equal(t, exitFailed, p.Ends(t))
	require.Regexp(t, `^cluster-test: failed to join cluster: [^\n]*user name is empty [^\n]*set --user\)\n$`, p.stderr.String())
}

func enableUsers(t *testing.T, endpoint string) {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}})
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err = client.UserAddWithOptions(ctx, "root", "", &clientv3.UserAddOptions{NoPassword: true})
	require.NoError(t, err)
	_, err = client.UserGrantRole(ctx, "root", "root")
	require.NoError(t, err)
	_, err = client.AuthEnable(ctx)
	require.NoError(t, err)
}

func TestFailedJoinOfOneNodeEndsTheOthers(t *testing.T) {
	args := []string{"-k", key(t), "-r", etcdURL(t)}
	huge := start(t, append(args, "-i", "a", "-n", "2147483646")...)
	huge.stderr.AwaitText(t, "sleeping until terminated\n")
	p := start(t, append(args, "-i", "b", "--nodes", "2")...)
	require.Equal(t, exitFailed, p.Ends(t))
	require.Contains(t, p.stderr.String(), ": failed to join cluster: ")
	require.Contains(t, p.stderr.String(), "2147483647")
}

func TestEtcdThatIsGoneFencesAndDoesNotHoldUpLeaving(t *testing.T) {
	t.Parallel() // it waits for the fence, and for a leave that gives up
	server, err := embedded.Start(t.Context(), embedded.Config{Fast: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	p := start(t, "--json", "-r", server.Endpoint(), "-i", "node", "--ttl", "15s")
	p.stdout.awaitPlace(t, "node", 0, 1)
	require.NoError(t, server.Close())
	p.stdout.awaitPlace(t, "node", -1, 0)
	p.stderr.AwaitText(t, "cluster-test: fenced: the record could not be renewed in time; will rejoin when etcd at "+server.Endpoint()+" answers\n")
	p.Signal()
	require.Equal(t, exitOK, p.Ends(t))
	var events []string
	for _, r := range records(t, p.stdout.String()) {
		events = append(events, r.Event)
	}
	require.Equal(t, []string{"joined", "fenced", "left"}, events)
}
