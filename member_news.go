package libcluster

import (
	"maps"
	"slices"
	"sync"
)

// memberNews is the members that are there, as a membership has been told, and of which of them
// the application may not know yet. The balancer takes in each change, and waits for nothing. A
// nil one takes in nothing.
type memberNews struct {
	scheme scheme // of those that count
	due    signal // there may be something to tell

	mu      sync.Mutex          // guards what follows
	now     map[string]Event    // that are there, by ID
	changed map[string]struct{} // the IDs of which something may be new
}

// newMemberNews returns nil if the application wants to know nothing of the members.
func newMemberNews(c *Config) *memberNews {
	if !c.watchesMembers() {
		return nil
	}
	return &memberNews{scheme: c.scheme(), due: newSignal(), now: make(map[string]Event), changed: make(map[string]struct{})}
}

// watchesMembers reports whether the application asks for more of the others than the
// mode needs.
func (c *Config) watchesMembers() bool {
	return c.WatchMembers || c.OnMembers != nil || c.Superseded != nil
}

// take takes in a change.
func (n *memberNews) take(change Change) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if change.Reset {
		for id := range n.now {
			n.changed[id] = struct{}{}
		}
		clear(n.now)
	}
	for _, e := range change.Events {
		id := e.Member.ID
		n.changed[id] = struct{}{}
		if e.Gone || e.Member.reserved || e.Member.plans.scheme != n.scheme {
			delete(n.now, id)
		} else {
			n.now[id] = e
		}
	}
}

// detailed adds to the assignments what else is known of their members.
func (n *memberNews) detailed(assignments []Assignment) []Assignment {
	if n == nil {
		return assignments
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, p := range assignments {
		if e, known := n.now[p.ID]; known {
			assignments[i].Version, assignments[i].Metadata = e.Member.Version, maps.Clone(e.Member.Metadata)
		}
	}
	return assignments
}

// look has the hook look again, since members may have got an assignment.
func (n *memberNews) look() {
	if n != nil {
		n.due.set()
	}
}

// since returns what has changed since told was true, and brings that up to date. What has
// changed back is no change.
func (n *memberNews) since(told map[string]Event) (change MembersChange) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(n.changed)) {
		before, was := told[id]
		after, is := n.now[id]
		switch {
		case is && !was:
			change.Joined = append(change.Joined, after.Member.clone())
		case was && !is:
			change.Left = append(change.Left, before.Member.clone())
			delete(told, id)
		case was && !before.Member.sameTo(after.Member):
			change.Changed = append(change.Changed, MemberUpdate{before.Member.clone(), after.Member.clone()})
		}
		if is {
			told[id] = after
		}
	}
	clear(n.changed)
	return change
}
