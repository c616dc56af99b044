package libcluster

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// ownRecord is what this instance wants to publish of itself. It outlives memberships.
type ownRecord struct {
	mu     sync.Mutex // guards what follows
	wanted Member     // as SetWorkers and SetMetadata have left it
	asking []*asked   // by calls that have not returned
}

// asked is what a call asks for.
type asked struct {
	wants   func(Member) bool // whether a record is as asked for
	refusal error
}

func (o *ownRecord) desired() Member {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.wanted
}

// ask changes the record. The call ends with answered.
func (o *ownRecord) ask(change func(*Member), wants func(Member) bool) *asked {
	o.mu.Lock()
	defer o.mu.Unlock()
	change(&o.wanted)
	a := &asked{wants: wants}
	o.asking = append(o.asking, a)
	return a
}

func (o *ownRecord) answered(call *asked) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asking = slices.DeleteFunc(o.asking, func(a *asked) bool { return a == call })
}

// refusalOf returns why what was asked for has been refused, if it has. Another goroutine may
// have sent it, because it published what could not be published before.
func (o *ownRecord) refusalOf(a *asked) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return a.refusal
}

// refused takes back what the registry refuses for good, unless something else has been set
// since. Of a record that differs from the published one in two ways the count is refused
// first. It reports whether there is something left to publish.
func (o *ownRecord) refused(m, last Member, why error) (more bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	nothingElse := maps.Equal(m.Metadata, last.Metadata)
	only := last.clone() // but for what is refused
	if m.Workers != last.Workers {
		only.Workers = m.Workers
		if o.wanted.Workers == m.Workers {
			o.wanted.Workers = last.Workers
		}
	} else {
		nothingElse, only.Metadata = true, m.Metadata
		if maps.Equal(o.wanted.Metadata, m.Metadata) {
			o.wanted.Metadata = last.Metadata
		}
	}
	for _, a := range o.asking {
		if a.wants(only) && !a.wants(last) {
			a.refusal = why
		}
	}
	return !nothingElse
}

// published is what the registry has of an incarnation's record.
type published struct {
	due signal // it is to be compared with what is desired
	// renewed is set when a heartbeat has succeeded since: what the registry tells of
	// the own record is to be compared, too. Before, its answer to the latest update may
	// be under way.
	renewed atomic.Bool

	sending baton  // held around each Update; guards what follows
	member  Member // the last record that the registry is known to have had
	unknown bool   // whether it has another one by now
}

func newPublished(m Member) *published {
	return &published{due: newSignal(), sending: make(baton, 1), member: m}
}

// compare has the record compared, and published if it is another one. It never blocks.
func (p *published) compare() { p.due.set() }
