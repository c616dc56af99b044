//go:build linux && faults

package faults_test

import (
	"context"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// history is all plans that there have been in mode cooperative, in their order.
type history []pastPlan

// pastPlan is a plan as far as it says who keeps what.
type pastPlan struct {
	generation int64
	keepers    map[int]keeper // by partition
}

type keeper struct{ incarnation, id string }

// readPlan reads the text of a plan: see encode in the library's plan.go.
func readPlan(t *testing.T, text string) pastPlan {
	t.Helper()
	number := func(s string) int {
		n, err := strconv.Atoi(s)
		require.NoError(t, err, "%q", text)
		return n
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	head := strings.Split(lines[0], "\t")
	require.Len(t, head, 4, "%q", text)
	require.Equal(t, "cooperative", head[0])
	p := pastPlan{int64(number(head[2])), make(map[int]keeper)}
	for _, line := range lines[1:] {
		f := strings.Split(line, "\t")
		require.Len(t, f, 7, "%q", line)
		for run := range strings.FieldsFuncSeq(f[5], func(r rune) bool { return r == ',' }) {
			first, last, several := strings.Cut(run, "-")
			if !several {
				last = first
			}
			for n := number(first); n <= number(last); n++ {
				p.keepers[n] = keeper{f[0], f[3]}
			}
		}
	}
	return p
}

// planKey is where the plan is.
const planKey = prefix + "/p/plan"

// plansIn returns the plans that an etcd remembers: all, as long as nobody compacts it.
func plansIn(t *testing.T, client *clientv3.Client) (all history) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	last, err := client.Get(ctx, planKey)
	require.NoError(t, err)
	require.Len(t, last.Kvs, 1)
	for answer := range client.Watch(ctx, planKey, clientv3.WithRev(1)) {
		require.NoError(t, answer.Err())
		for _, e := range answer.Events {
			all = append(all, readPlan(t, string(e.Kv.Value)))
			if e.Kv.ModRevision == last.Kvs[0].ModRevision {
				return all
			}
		}
	}
	require.FailNow(t, "etcd does not tell all plans")
	return nil
}

// stayed says what is wrong with the stop of a partition that an instance has by the plan of
// one generation, when it has heard of plans up to another one: nothing, if one of these has
// the partition move.
func (h history) stayed(partition int, id string, granted, heard int64) string {
	var by *keeper
	for _, p := range h {
		owner, kept := p.keepers[partition]
		switch {
		case p.generation == granted && (!kept || owner.id != id):
			return "its plan does not give it the partition"
		case p.generation == granted:
			by = &owner
		case by != nil && p.generation > granted && p.generation <= heard && owner != *by:
			return ""
		}
	}
	if by == nil {
		return "there is no plan of that generation"
	}
	return "all plans that it has heard of have left it the partition"
}
