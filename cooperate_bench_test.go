package libcluster

import (
	"fmt"
	"testing"
	"time"
)

// worksite is a cooperative cluster as its coordinator sees it, in which everybody does at
// once what a plan asks for.
type worksite struct {
	deciding
	Survey
	came      int // members so far
	decisions int
	text      int // bytes of the longest plan
}

func newWorksite(members, partitions int) *worksite {
	of := scheme{ModeCooperative, partitions}
	w := &worksite{deciding: deciding{scheme: of, incarnation: "0"}, Survey: Survey{Acknowledged: map[string]int64{}, Remaining: map[string]string{}}}
	for range members {
		w.join()
	}
	w.settle()
	return w
}

func (w *worksite) join() {
	id := fmt.Sprintf("%032x", slotHash(w.came))
	m := recorded(id, fmt.Sprintf("%016x", slotHash(id)), 1, 0)
	m.plans.scheme, m.Since = w.scheme, int64(w.came)
	w.came++
	w.Members = append(w.Members, m)
}

// leave has a member leave: the first, which others have come after.
func (w *worksite) leave() {
	w.Acknowledged[w.Members[0].Incarnation] = StoppedForGood
	w.Members = w.Members[1:]
}

// settle decides until nothing is left to do.
func (w *worksite) settle() {
	for {
		w.decisions++
		next := w.decide(w.Survey, later(time.Duration(w.decisions)*time.Second), 0).next
		if next == nil {
			return
		}
		w.Plan = next.encode()
		w.Planning.Revision++
		w.text = max(w.text, len(w.Plan))
		for _, l := range next.lines {
			if w.Acknowledged[l.incarnation] != StoppedForGood && len(l.releases) > 0 {
				w.Acknowledged[l.incarnation] = next.generation
			}
		}
	}
}

// BenchmarkCooperate measures what a coordinator computes in mode cooperative: for a whole
// change, in turn that one joins and that one leaves, and for a survey of which nothing
// follows. Before, each member has been replaced, so that partitions are scattered as they are in a
// cluster that is old. Beside it is how long the plans become.
func BenchmarkCooperate(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		site := newWorksite(n, 4096)
		change := func(members int) { // two changes
			for range members {
				site.join()
			}
			site.settle()
			for range members {
				site.leave()
			}
			site.settle()
		}
		for range 10 {
			change(n / 10)
		}
		b.Run(fmt.Sprintf("members=%d/change", n), func(b *testing.B) {
			b.ReportAllocs()
			before := site.decisions
			site.text = 0
			changes := 0
			for b.Loop() {
				change(1)
				changes += 2
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(changes), "us/change")
			b.ReportMetric(float64(site.decisions-before)/float64(changes), "decisions/change")
			b.ReportMetric(float64(site.text), "plan-B")
		})
		b.Run(fmt.Sprintf("members=%d/nothing", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				site.settle()
			}
		})
	}
}
