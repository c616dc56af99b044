package libcluster_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

// diary is what an instance was called back with, and may take long.
type diary struct {
	mu    sync.Mutex
	lines []string
	slow  map[string]time.Duration // by the first word of a line: how long that callback takes
}

func (d *diary) note(line, kind string) {
	d.mu.Lock()
	d.lines = append(d.lines, line)
	slow := d.slow[kind]
	d.mu.Unlock()
	time.Sleep(slow)
}

// since returns what was noted since it was called last.
func (d *diary) since() (lately []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	lately, d.lines = d.lines, nil
	return lately
}

func (d *diary) takes(kind string, long time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slow = map[string]time.Duration{kind: long}
}

func (d *diary) keep(c *libcluster.Config) {
	partitions := func(kind string) func([]libcluster.Partition) {
		return func(ps []libcluster.Partition) {
			var numbers []int
			for _, p := range ps {
				numbers = append(numbers, p.Number)
			}
			d.note(fmt.Sprint(kind, " ", numbers), kind)
		}
	}
	c.OnGranted, c.OnRevoked, c.OnLost = partitions("granted"), partitions("revoked"), partitions("lost")
	c.OnRebalance = func(s libcluster.State) { d.note(fmt.Sprint("index ", s.Index), "index") }
}

func TestTheCallbacksOfPartitions(t *testing.T) {
	inLedger(t, func(l *ledger) {
		var d diary
		a := l.member("a", cooperative(4, d.keep))
		require.Equal(l.T, []string{"granted [0 1 2 3]", "index 0"}, d.since())
		l.member("b", cooperative(4))
		wait(time.Second)
		require.Equal(l.T, []string{"revoked [2 3]", "index 0"}, d.since())
		l.Cut("a")
		wait(time.Minute)
		require.Equal(l.T, []string{"lost [0 1]", "index -1"}, d.since())
		l.Heal("a")
		wait(30 * time.Second)
		require.Len(l.T, d.since(), 2)
		require.NoError(l.T, a.Leave(context.Background()))
		require.Contains(l.T, d.since()[0], "revoked")
	})
}

// Of four instances two give one partition each, or get one.
func TestAnInstanceThatNeitherGivesNorGetsIsNotCalled(t *testing.T) {
	inLedger(t, func(l *ledger) {
		var diaries [4]diary
		called := func() (who string) {
			wait(time.Second)
			for i := range diaries {
				if len(diaries[i].since()) > 0 {
					who += string(rune('a' + i))
				}
			}
			return who
		}
		joins := func(i int) *libcluster.Cluster {
			return l.member(string(rune('a'+i)), cooperative(7, diaries[i].keep))
		}
		for i := range 3 {
			joins(i) // 3, 2 and 2
		}
		require.Equal(l.T, "abc", called())
		d := joins(3) // 2, 2, 2 and 1
		require.Equal(l.T, "ad", called())
		require.NoError(l.T, d.Leave(context.Background()))
		got := called()
		require.Len(l.T, got, 2, "one partition goes from d to one of the others: %s", got)
		require.Contains(l.T, got, "d")
	})
}

// visits has an instance join, and returns what makes it leave.
func (l *ledger) visits(id string, partitions int) (leave func()) {
	c := l.instance(id, cooperative(partitions))
	go c.Join(context.Background()) // or it leaves before that
	wait(2 * time.Second)
	return func() {
		require.NoError(l.T, c.Leave(context.Background()))
		wait(2 * time.Second)
	}
}

func patiently(c *libcluster.Config) { c.DrainTimeout = time.Hour }

// A callback may outlive the incarnation that it was called for.
func TestAPartitionThatWasRevokedIsNotLostBesides(t *testing.T) {
	inLedger(t, func(l *ledger) {
		var d diary
		l.member("a", cooperative(4, d.keep, patiently))
		d.takes("revoked", time.Minute)
		d.since()
		l.visits("b", 4)
		l.Cut("a")
		wait(2 * time.Minute)
		require.Equal(l.T, []string{"revoked [2 3]", "lost [0 1]", "index -1"}, d.since())
	})
}

// What was to be granted when another callback began may be others' when it has returned.
func TestNothingIsGrantedThatHasGoneDuringAnotherCallback(t *testing.T) {
	inLedger(t, func(l *ledger) {
		var d diary
		a := l.member("a", cooperative(4, d.keep, patiently))
		d.takes("index", 20*time.Second)
		require.NoError(l.T, a.SetWorkers(context.Background(), 2))
		wait(time.Second)
		leave := l.visits("b", 4)
		leave()
		tokens := func() (all []int64) {
			for p := range a.State().Held() {
				all = append(all, p.Token)
			}
			return all
		}
		require.Greater(l.T, tokens()[3], tokens()[0], "the last one was to move and has not")
		d.takes("revoked", 3*time.Minute)
		d.since()
		wait(30 * time.Second)
		require.Equal(l.T, []string{"revoked [3]"}, d.since())
		l.Cut("a")
		wait(10 * time.Minute)
		require.Equal(l.T, []string{"lost [0 1 2]", "index -1"}, d.since())
	})
}

// The first assignment may be gone before OnRebalance has told of it. Nothing is to be taken back
// then, and the instance has not joined.
func TestOnRebalanceTellsOfAnAssignmentFirst(t *testing.T) {
	inLedger(t, func(l *ledger) {
		var d diary
		d.takes("granted", time.Minute)
		a := l.instance("a", cooperative(4, d.keep))
		joined := make(chan error, 1)
		go func() { joined <- a.Join(context.Background()) }()
		wait(time.Second)
		l.Cut("a")
		wait(2 * time.Minute)
		require.Equal(l.T, []string{"granted [0 1 2 3]", "lost [0 1 2 3]"}, d.since())
		require.Empty(l.T, joined)
		d.takes("", 0)
		l.Heal("a")
		wait(time.Minute)
		require.Equal(l.T, []string{"granted [0 1 2 3]", "index 0"}, d.since())
		require.NoError(l.T, <-joined)
	})
}

// A function does not begin either.
func TestNoFunctionBeginsForAnIncarnationThatIsOver(t *testing.T) {
	inLedger(t, func(l *ledger) {
		var d diary
		d.takes("index", time.Minute)
		l.runs("a", 4, func(c *libcluster.Config) { d.keep(c); c.OnGranted, c.OnRevoked, c.OnLost = nil, nil, nil })
		l.Cut("a")
		wait(2 * time.Minute)
		require.Empty(l.T, l.starts())
		d.takes("", 0)
		l.Heal("a")
		wait(time.Minute)
		require.Equal(l.T, map[string]int{"a": 4}, l.starts())
	})
}
