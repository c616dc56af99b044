package libcluster

import (
	"runtime"
	"strings"
	"time"
)

// SetClockRate has an instance's clock run at another rate, from now on: a second
// lasts rate seconds by it. Timers go on as they are, only readings differ. It is to
// be called before Join.
func (c *Cluster) SetClockRate(rate float64) {
	start := time.Now()
	c.clock = func() moment {
		passed := time.Duration(float64(time.Since(start)) * rate)
		return moment{start.Add(passed), 0}
	}
}

// Sleep waits for a time, or until a context ends.
var Sleep = sleep

// PlanText is what a plan says.
type PlanText struct {
	Committed   bool
	Generation  int64
	Total       int
	Assignments []Assignment
	Named       []string // the incarnations that it gives an assignment, or waits for
	// In mode cooperative: the partitions that each of them keeps, and is to release.
	Keeps, Releases map[string]Assignment
}

// ReadPlan reads a plan. One whose ranges do not tile is an error.
func ReadPlan(text string) (PlanText, error) {
	p, err := parsePlan([]byte(text))
	if err != nil {
		return PlanText{}, err
	}
	read := PlanText{
		Committed: p.committed, Generation: p.generation, Total: p.total, Keeps: map[string]Assignment{}, Releases: map[string]Assignment{},
	}
	for _, l := range p.lines {
		read.Named = append(read.Named, l.incarnation)
		read.Keeps[l.incarnation], read.Releases[l.incarnation] = l.Assignment, Assignment{Index: -1, held: l.releases}
		if l.Index >= 0 {
			read.Assignments = append(read.Assignments, l.Assignment)
		}
	}
	return read, nil
}

// ReadPartitions reads the text of some of n partitions.
func ReadPartitions(text string, n int) (Assignment, error) {
	set, err := parsePartitions(text, n)
	return Assignment{Index: -1, held: set}, err
}

// Window is how long after a renewal was sent a member may act, and UntilOver how
// long one that has vanished is waited for.
var (
	Window    = window
	UntilOver = untilOver
)

// OnClock has f called at each reading of an instance's clock, with the names of the
// functions that have asked: the only way in virtual time to stop a goroutine between
// two of its lines. It is to be called before Join.
func (c *Cluster) OnClock(f func(callers string)) {
	clock := c.clock
	c.clock = func() moment {
		m := clock()
		var pcs [16]uintptr
		frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
		var callers strings.Builder
		for {
			frame, more := frames.Next()
			callers.WriteString(frame.Function + "\n")
			if !more {
				break
			}
		}
		f(callers.String())
		return m
	}
}

// LongestHold is for how long a newcomer may have to wait since others have vanished soon.
func LongestHold(ttl time.Duration) time.Duration { return soonTTLs * ttl }
