//go:build linux && faults

package faults_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// figures is a row of the table that a test makes.
type figures struct {
	fault   string
	trials  int
	late    int             // the member thought that it held a place, and etcd had deleted the record
	margins []time.Duration // from the end of the belief to the deletion
	whole   []time.Duration // from the end of the fault until all are active again
}

// judge compares a member's belief with every deletion of its record since a
// time.
func (f *figures) judge(t *testing.T, m *member, w *witness, since time.Duration) {
	t.Helper()
	for _, gone := range w.deletions(prefix+m.ID(), since) {
		margin, held := m.margin(gone.at, w.successor(gone))
		if !held {
			continue
		}
		f.margins = append(f.margins, margin)
		if margin <= 0 {
			f.late++
			t.Errorf("%s: a late fence: its record was deleted in revision %d, and %v later it still held its place; %v",
				m.ID(), gone.revision, -margin, m.reasons())
		}
	}
}

// allBack notes how long after the end of a fault each member was active again, and judges
// what it believed since the fault began.
func (f *figures) allBack(t *testing.T, members []*member, w *witness, begin, end time.Duration) {
	t.Helper()
	w.catchUp()
	for _, m := range members {
		f.whole = append(f.whole, max(0, m.awaitActive(patience)-end))
		f.judge(t, m, w, begin)
	}
}

// report logs the row, and fails if a fence was late.
func (f *figures) report(t *testing.T) {
	t.Helper()
	t.Logf("| %s | trials %d | late %d | records deleted %d, worst margin %s | whole again: median %s, worst %s |",
		f.fault, f.trials, f.late, len(f.margins), worst(f.margins, slices.Min[[]time.Duration]),
		median(f.whole), worst(f.whole, slices.Max[[]time.Duration]))
	require.Zero(t, f.late, "late fences")
}

func worst(d []time.Duration, of func([]time.Duration) time.Duration) string {
	if len(d) == 0 {
		return "-"
	}
	return short(of(d))
}

func median(d []time.Duration) string {
	if len(d) == 0 {
		return "-"
	}
	return short(middle(d))
}

func middle(d []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(d))[len(d)/2]
}

// title returns a subtest's name as it was given.
func title(t *testing.T) string {
	return strings.ReplaceAll(t.Name()[strings.LastIndex(t.Name(), "/")+1:], "_", " ")
}

// short writes a duration in milliseconds: what is below is noise.
func short(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }
