package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestStaticTranscriptIsTheOriginals(t *testing.T) {
	p := start(t, "-I", "2", "-n", "3", "-T", "7")
	p.stderr.AwaitText(t, "sleeping until terminated\n")
	p.Signal()
	require.Equal(t, exitOK, p.Ends(t))
	require.Equal(t, `cluster-test: cluster has re-balanced:
   instance index:        2
   instance thread count: 3
   total thread count:    7
cluster-test: cluster joined; sleeping until terminated
cluster-test: signal received, will terminate
cluster-test: will now leave the cluster
cluster-test: cluster has re-balanced:
   instance index:        -1
   instance thread count: 3
   total thread count:    4
cluster-test: successfully left the cluster
`, p.stderr.String())
	require.Empty(t, p.stdout.String())
}

func TestWithoutFlagsItIsAStaticClusterOfOne(t *testing.T) {
	p := start(t)
	p.stderr.AwaitText(t, "sleeping until terminated\n")
	require.Equal(t, `cluster-test: cluster has re-balanced:
   instance index:        0
   instance thread count: 1
   total thread count:    1
cluster-test: cluster joined; sleeping until terminated
`, p.stderr.String())
}

func TestStaticAssignmentComesFromTheEnvironment(t *testing.T) {
	t.Setenv("JOB_COMPLETION_INDEX", "2")
	p := start(t, "--static-env", "-T", "5", "-n", "4", "--json")
	p.stdout.Await(t, "a state", func(text string) bool { return text != "" })
	r := records(t, p.stdout.String())[0]
	require.Equal(t, []int{8, 4, 20}, []int{r.Index, r.Workers, r.Total})
}

func TestJSONHasEveryFieldAndStandsBesideTheTranscript(t *testing.T) {
	before := time.Now()
	p := start(t, "--json", "-i", "node1", "-T", "2")
	p.stderr.AwaitText(t, "sleeping until terminated\n")
	p.Signal()
	require.Equal(t, exitOK, p.Ends(t))
	require.Contains(t, p.stderr.String(), "cluster-test: successfully left the cluster\n")

	lines := strings.Split(strings.TrimSuffix(p.stdout.String(), "\n"), "\n")
	require.Len(t, lines, 2)
	for i, want := range []map[string]any{
		{"instance": "node1", "index": 0., "workers": 1., "total": 2., "generation": 1., "primary": true, "event": "joined"},
		{"instance": "node1", "index": -1., "workers": 1., "total": 1., "generation": 1., "primary": false, "event": "left"},
	} {
		var got map[string]any
		require.NoError(t, json.Unmarshal([]byte(lines[i]), &got))
		text, ok := got["time"].(string)
		require.True(t, ok, lines[i])
		require.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$`, text)
		at, err := time.Parse(time.RFC3339Nano, text)
		require.NoError(t, err)
		require.WithinRange(t, at, before, time.Now())
		delete(got, "time")
		require.Equal(t, want, got)
	}
}

func TestVerboseShowsTheLibrarysLog(t *testing.T) {
	p := start(t, "-v", "-i", "node1", "-I", "2", "-n", "1", "-T", "7")
	p.stderr.AwaitText(t, "sleeping until terminated\n")
	p.stderr.AwaitText(t, `"workers": 1}`) // the log is written by a goroutine of its own
	text := p.stderr.String()
	require.Regexp(t, `(?m)^\d\d:\d\d:\d\d\.\d{3} DEBUG re-balancing .*"instance": "node1".*"members": "node1 \[2\]"`, text)
	require.Regexp(t, `(?m)^[0-9:.]+ INFO  re-balanced .*"total": 7, "was_total": 0, "index": 2, "was_index": -1, "workers": 1}$`, text)
	require.Contains(t, text, "cluster-test: cluster has re-balanced:\n   instance index:        2\n")
}

// broken is a pipe whose reader has gone.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestReaderThatHasGoneEndsTheProgramAfterLeaving(t *testing.T) {
	stderr := newConsole()
	require.Equal(t, exitFailed, run(t.Context(), []string{"--json"}, broken{}, stderr))
	require.Contains(t, stderr.String(), "cluster-test: cannot write to standard output, will terminate: broken pipe\n")
	require.Contains(t, stderr.String(), "   instance index:        -1\n")

	stdout := newConsole()
	require.Equal(t, exitFailed, run(t.Context(), []string{"--json"}, stdout, broken{}))
	all := records(t, stdout.String())
	require.Equal(t, "left", all[len(all)-1].Event)
}

func TestBlockIsOneWrite(t *testing.T) {
	p := start(t, "-r", etcdURL(t), "-k", key(t), "--nodes", "8", "-i", "node")
	for _, node := range []string{"node1", "node2", "node3", "node4", "node5", "node6", "node7", "node8"} {
		p.stderr.AwaitText(t, "cluster-test: "+node+": cluster joined; sleeping until terminated\n")
	}
	p.Signal()
	require.Equal(t, exitOK, p.Ends(t))
	lines := strings.Split(p.stderr.String(), "\n")
	for i, line := range lines {
		node, found := strings.CutSuffix(line, ": cluster has re-balanced:")
		if !found {
			continue
		}
		require.Regexp(t, "^"+node+`:    instance index:        -?\d+$`, lines[i+1])
		require.Regexp(t, "^"+node+`:    instance thread count: 1$`, lines[i+2])
		require.Regexp(t, "^"+node+`:    total thread count:    \d$`, lines[i+3])
	}
}

func TestHelpNamesEveryFlagAndItsDefault(t *testing.T) {
	for _, flag := range []string{"-h", "--help"} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, exitOK, run(t.Context(), []string{flag}, &stdout, &stderr))
		require.Empty(t, stderr.String())
		require.True(t, strings.HasPrefix(stdout.String(), "Usage: cluster-test [OPTIONS]\n\nOPTIONS are one or more of:\n  -h, "))
		require.Contains(t, stdout.String(), "\n etcd-based clustering:\n")
		require.Contains(t, stdout.String(), "\n Static clustering:\n")
		checkUsage(t, stdout.String(), newFlags().FlagSet)
	}
}
