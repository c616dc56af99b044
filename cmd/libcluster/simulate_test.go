package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

func simulated(t *testing.T, args ...string) string {
	t.Helper()
	return printed(t, append([]string{"simulate"}, args...)...)
}

func TestSimulationSaysWhoIsRenumberedAndWhatMoves(t *testing.T) {
	require.Equal(t, `members node2,node3,node4 with IDs that they keep, workers 2; 100000 keys, seed 1, runs 1

change                 mode         members  total  renumbered  hash % total       Slot      least
join node1             direct             4      8           3        75.1 %     91.8 %     25.0 %
join node1             planned            4      8           0        74.9 %     24.9 %     25.0 %
join node1             cooperative        4      8           0        25.2 %     25.0 %     25.0 %
leave node2            direct             3      6           2        75.0 %     66.9 %     25.0 %
leave node2            planned            3      6           1        75.1 %     41.5 %     25.0 %
leave node2            cooperative        3      6           0        24.7 %     25.1 %     25.0 %
rolling restart        direct             3      6           6     4.0 times  3.3 times  2.0 times
rolling restart        planned            3      6           3     4.0 times  2.5 times  2.0 times
rolling restart        cooperative        3      6           0     2.0 times  2.0 times  2.0 times
rolling restart, kept  direct             3      6           0         0.0 %      0.0 %      0.0 %
rolling restart, kept  planned            3      6           0         0.0 %      0.0 %      0.0 %
rolling restart, kept  cooperative        3      6           0         0.0 %      0.0 %      0.0 %

join node1, direct: node2 0→2, node3 2→4, node4 4→6
leave node2, direct: node3 4→2, node4 6→4
leave node2, planned: node1 6→0
rolling restart, direct: node4 4 times, node3 2 times
rolling restart, planned: node4 2 times, node3 4→2
`, simulated(t, strings.Fields("--members node2,node3,node4 --workers 2 --join node1 --leave node2 "+
		"--rolling-restart --rolling-restart=kept")...))
}

func TestSimulationIsTheSameForTheSameSeed(t *testing.T) {
	one := simulated(t, "--keys", "1000")
	require.Equal(t, one, simulated(t, "--keys", "1000"))
	require.NotEqual(t, one, simulated(t, "--keys", "1000", "--seed", "2"))
}

func TestSimulationPrintsALineOfJSONForEachChangeAndMode(t *testing.T) {
	var results []result
	for line := range strings.Lines(simulated(t, "-o", "json", "--keys", "1000", "--stable-ids", "--join", "2", "--leave", "node1")) {
		var r result
		require.NoError(t, json.Unmarshal([]byte(line), &r), line)
		results = append(results, r)
	}
	require.Len(t, results, 2*len(modes))
	r := results[len(modes)] // the second change, in direct mode
	require.Equal(t, "leave node1", r.Change)
	require.Equal(t, "direct", r.Mode)
	require.Equal(t, []int{11, 11}, []int{r.Members, r.Total})
	require.Equal(t, 11., r.Renumbered)
	require.Len(t, r.Who, 11)
	require.Equal(t, renumbering{"node10", 1, 0, 1}, r.Who[0])
	require.Contains(t, r.Moved, "modulo")
	require.Contains(t, r.Moved, "slot")
}

func TestMeanOfManyRunsIsSteadierThanOne(t *testing.T) {
	for line := range strings.Lines(simulated(t, "-o", "json", "--keys", "1000", "--runs", "300", "--join", "1")) {
		var r result
		require.NoError(t, json.Unmarshal([]byte(line), &r))
		require.Empty(t, r.Who, "of many runs there is nobody to name")
		if r.Mode == "direct" {
			require.InDelta(t, 5, r.Renumbered, 1, "half of those who are there")
		}
	}
}

func TestSimulationStartsWithTheMembersOfACluster(t *testing.T) {
	put(t, "node1", "2")
	put(t, "node2", "1")
	put(t, "node3", "4")
	args := []string{"--join", "node4", "--workers", "2", "--leave", "node2"}
	got := simulated(t, append(args, "-r", etcdURL(t), "-k", key(t))...)
	want := simulated(t, "--members", "node1,node2,node3", "--workers", "2,1,4", "--join", "node4", "--leave", "node2")
	_, got, _ = strings.Cut(got, "\n")
	_, want, _ = strings.Cut(want, "\n")
	require.Equal(t, want, got)
}

func TestSimulationReckonsWithThePartitionsThatThereAre(t *testing.T) {
	args := []string{"--members", "node1,node2,node3", "--join", "node4", "--keys", "1000"}
	few := simulated(t, append(args, "--partitions", "2")...)
	require.Contains(t, few, " 2 partitions,")
	require.Regexp(t, `join node4 +cooperative +4 +4 +0 +0\.0 % +0\.0 %`, few, "the newcomer gets none")
	require.NotRegexp(t, `join node4 +cooperative +4 +4 +0 +0\.0 %`, simulated(t, args...))

	c, err := libcluster.New(libcluster.Config{
		Key: key(t), ID: "node1", Mode: libcluster.ModeCooperative, Partitions: 2, Registry: libcluster.Etcd(etcdURL(t)),
	})
	require.NoError(t, err)
	require.NoError(t, c.Join(t.Context()))
	defer leave(t, c)
	args = []string{"-k", key(t), "-r", etcdURL(t), "--keys", "1000"}
	require.Contains(t, simulated(t, args...), " 2 partitions,")
	require.Contains(t, simulated(t, append(args, "--partitions", "3")...), " 3 partitions,")
}

func TestClusterWithoutMembersIsNotSimulated(t *testing.T) {
	status, text := failing(t, "simulate", "-r", etcdURL(t), "-k", key(t))
	require.Equal(t, exitFailed, status)
	require.Equal(t, "libcluster: the cluster has no members\n", text)
}

func TestBadScenarioIsToldInOneLine(t *testing.T) {
	for _, c := range []struct {
		args string
		says []string
	}{
		{"--foo", []string{`"--foo"`}},
		{"join", []string{`"join"`}},
		{"-k a", []string{"-r/--registry", "LIBCLUSTER_REGISTRY"}},
		{"-e a", []string{"-e/--env", "-r/--registry"}},
		{"-r http://h", []string{"-k/--key", "LIBCLUSTER_KEY"}},
		{"-r http://h -k m -i a", []string{`"-i"`}},
		{"-r http://h -k m --members 3", []string{"--members", `"3"`, "-r/--registry"}},
		{"-k m -r http://h/path", []string{"-r/--registry", `"http://h/path"`}},
		{"--join", []string{"--join", "needs a value"}},
		{"--members 0", []string{"--members", `"0"`, "10000"}},
		{"--members a,a", []string{"--members", `"a,a"`, "already"}},
		{"--members a,,b", []string{"--members", `"a,,b"`, "empty"}},
		{"--members a/b", []string{"--members", `"a/b"`, "'/'"}},
		{"--members 9999 --workers 9999", []string{"--members", `"9999"`, "1000000 workers"}},
		{"--workers 0", []string{"--workers", `"0"`}},
		{"--workers 1,x", []string{"--workers", `"x"`}},
		{"--join -1", []string{"--join", `"-1"`}},
		{"--leave x", []string{"--leave", `"x"`, "not there"}},
		{"--leave 10", []string{"--leave", `"10"`, "nobody"}},
		{"--rolling-restart=x", []string{"--rolling-restart", `"x"`, "kept"}},
		{"--members 1 --rolling-restart", []string{"--rolling-restart", "nobody"}},
		{"--keys 0", []string{"--keys 0"}},
		{"--partitions 0", []string{"--partitions 0", "1 to"}},
		{"--runs x", []string{"--runs", `"x"`, "whole number"}},
	} {
		t.Run(c.args, func(t *testing.T) {
			status, text := failing(t, append([]string{"simulate"}, strings.Fields(c.args)...)...)
			require.Equal(t, exitUsage, status, text)
			require.Equal(t, 1, strings.Count(text, "\n"), text)
			require.Contains(t, text, "; try 'libcluster simulate --help'\n")
			for _, want := range c.says {
				require.Contains(t, text, want)
			}
		})
	}
}

func TestSimulateOfOneMemberDoesWhatOneCan(t *testing.T) {
	text := simulated(t, "--members", "1")
	require.Contains(t, text, "join 1")
	require.Contains(t, text, "leave 1")
	require.NotContains(t, text, "rolling-restart")

	put(t, "only", "1")
	require.Contains(t, simulated(t, "-k", key(t), "-r", etcdURL(t)), "join 1")
}

// LIBCLUSTER_WORKERS is in the environment of each command of exec.
func TestMadeUpMembersAreNotThoseOfTheEnvironment(t *testing.T) {
	want := simulated(t, "--keys", "1000")
	t.Setenv("LIBCLUSTER_REGISTRY", etcdURL(t))
	t.Setenv("LIBCLUSTER_WORKERS", "3")
	require.Equal(t, want, simulated(t, "--keys", "1000"))
	put(t, "node1", "2")
	require.Contains(t, simulated(t, "-k", key(t)), "members 1, those that are there, with IDs that they keep, workers 1;")
}

func TestWideSimulationNamesAllWhoAreRenumbered(t *testing.T) {
	args := []string{"--members", "b,c,d,e,f,g", "--join", "a", "--keys", "1000"}
	require.Contains(t, simulated(t, args...), "d 2→3, e 3→4, and 2 more\n")
	require.Contains(t, simulated(t, append(args, "-o", "wide")...), "e 3→4, f 4→5, g 5→6\n")
}
