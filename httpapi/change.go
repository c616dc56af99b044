package httpapi

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/libcluster/libcluster"
)

// change is one line of the time line: a picture in short, and what is new in it.
type change struct {
	ID         int64            `json:"id"`
	Time       time.Time        `json:"time"`
	Generation int64            `json:"generation"`
	Total      int              `json:"total"`
	Instances  int              `json:"instances"`
	Phase      libcluster.Phase `json:"phase"`
	Text       string           `json:"text"`
	Strip      string           `json:"strip"`
}

// changeTo returns the change from one picture to the next. Before the first there is none.
func changeTo(before *picture, now picture) change {
	return change{
		Generation: now.State.Generation, Total: now.width(), Instances: len(now.Members),
		Phase: now.State.Phase, Text: whatChanged(before, now), Strip: strip(now),
	}
}

// whatChanged tells people what is new in a picture; empty: all are where they were.
func whatChanged(before *picture, now picture) string {
	if before == nil {
		return "first look"
	}
	var joined, left, resized, moved []string
	was := make(map[string]member, len(before.Members))
	for _, m := range before.Members {
		was[m.ID] = m
	}
	for _, m := range now.Members {
		b, there := was[m.ID]
		delete(was, m.ID)
		switch {
		case !there:
			joined = append(joined, m.ID)
		case b.Workers != m.Workers:
			resized = append(resized, fmt.Sprintf("%s (%d)", m.ID, m.Workers))
		case !slices.Equal(b.holds, m.holds):
			moved = append(moved, m.ID)
		}
	}
	for _, m := range before.Members {
		if _, gone := was[m.ID]; gone {
			left = append(left, m.ID)
		}
	}
	var said []string
	say := func(names []string, what string) {
		if len(names) > 0 {
			said = append(said, first(names)+" "+what)
		}
	}
	say(left, "gone")
	say(joined, "joined")
	say(resized, "with other workers")
	say(moved, "moved")
	if before.State.Phase != now.State.Phase {
		said = append(said, "this instance is "+string(now.State.Phase))
	}
	say(newIn(now.Blockers, before.Blockers), "waited for")
	say(newIn(before.Blockers, now.Blockers), "waited for no longer")
	return strings.Join(said, "; ")
}

const nothingMoved = "nothing has moved"

// whatIsReserved tells people of assignments that are reserved now, or were, by their IDs.
func whatIsReserved(before, now []string) string {
	var said []string
	if left := without(now, before); len(left) > 0 {
		said = append(said, first(left)+" left for a restart, and what it holds is reserved")
	}
	if back := without(before, now); len(back) > 0 {
		said = append(said, first(back)+" back from a restart")
	}
	if len(said) == 0 {
		return nothingMoved
	}
	return strings.Join(said, "; ")
}

// without returns the IDs that are not among others.
func without(ids, others []string) []string {
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return slices.Contains(others, id) })
}

// newIn returns the IDs of blockers that were none before.
func newIn(now, before []blocker) (ids []string) {
	for _, b := range now {
		if !slices.ContainsFunc(before, func(was blocker) bool { return was.ID == b.ID }) {
			ids = append(ids, b.ID)
		}
	}
	return ids
}

// first names the first of many.
func first(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// columns is how wide a strip is at the most.
const columns = 128

// nobody stands in a strip for what no member holds, as far as is known.
const nobody = '.'

// strip draws a picture in one line: a column for each index, or the colour at the middle of
// each column if there are more indexes than columns.
func strip(p picture) string {
	width := p.width()
	line := []byte(strings.Repeat(string(nobody), min(width, columns)))
	middle := func(column int) int { return (2*column + 1) * width / (2 * len(line)) }
	for _, m := range p.Members {
		if m.Color == nil {
			continue
		}
		for _, s := range m.holds {
			from := sort.Search(len(line), func(i int) bool { return middle(i) >= s.from })
			for i := from; i < len(line) && middle(i) < s.to; i++ {
				line[i] = '0' + byte(*m.Color)
			}
		}
	}
	return string(line)
}

// colors says which of the page's colours an instance has. It keeps it while others come
// and go, and when it comes back. One goroutine uses it.
type colors struct{ of map[string]int }

const (
	// hues is how many colours the page has; more are hard to tell apart.
	hues = 8
	// mostColors bounds the instances that are remembered.
	mostColors = 4096
)

// paint gives each member its colour. A member that has none yet gets one that the fewest have: as
// a rule the same on each instance's page, since the ID says where to begin.
func (c *colors) paint(members []member) {
	if c.of == nil {
		c.of = make(map[string]int)
	}
	var used [hues]int
	var without []int
	here := make(map[string]struct{}, len(members))
	for i, m := range members {
		here[m.ID] = struct{}{}
		if hue, known := c.of[m.ID]; known {
			used[hue]++
		} else {
			without = append(without, i)
		}
	}
	for _, i := range without {
		best := libcluster.Slot(members[i].ID, hues)
		for n := range hues {
			if hue := (best + n) % hues; used[hue] < used[best] {
				best = hue
			}
		}
		used[best]++
		c.of[members[i].ID] = best
	}
	for i, m := range members {
		hue := c.of[m.ID]
		members[i].Color = &hue
	}
	if len(c.of) > mostColors {
		for id := range c.of {
			if _, there := here[id]; !there {
				delete(c.of, id)
			}
		}
	}
}
