package libcluster

import (
	"maps"
	"slices"
	"strings"

	"github.com/libcluster/libcluster/kv"
)

// mirror is what a space holds, as far as it means anything.
type mirror struct {
	prefix       string // of the keys, for people
	planning     Planning
	members      map[string]Recorded // by ID
	acknowledged map[string]int64    // by incarnation
	remaining    map[string]string   // by incarnation
	foreign      []foreign           // since the last survey
	weights      *weights
	mark         kv.Mark // of the answer that it was read with
	latest       int64   // the latest version in that
}

// reflect brings the mirror up to date with one record.
func (m *mirror) reflect(r kv.Record, gone bool) {
	if strings.HasPrefix(r.Key, publicKeys) {
		m.planning.reflect(r, gone)
		return
	}
	if incarnation, acknowledged := strings.CutPrefix(r.Key, acknowledgedKeys); acknowledged {
		generation, remaining, err := readNote(r.Value)
		delete(m.remaining, incarnation)
		if gone || err != nil || r.Owner == 0 {
			delete(m.acknowledged, incarnation)
			m.weights.put(r.Key, 0)
		} else {
			m.acknowledged[incarnation] = generation
			if remaining != "" {
				m.remaining[incarnation] = remaining
			}
			m.weights.put(r.Key, len(r.Key)+len(remaining)+recordCost)
		}
		return
	}
	e, why := eventOf(r, gone)
	m.foreign = found(m.foreign, m.prefix, r, why)
	m.weights.member(e, len(r.Key)+len(r.Value))
	if e.Gone {
		delete(m.members, r.Key)
		return
	}
	found := Recorded{Member: e.Member, Since: r.Created}
	if r.Owner != 0 {
		found.Incarnation = incarnationOf(r.Owner)
	}
	m.members[r.Key] = found
}

// survey returns what the mirror shows.
func (m *mirror) survey(revision int64) Survey {
	found := m.foreign
	m.foreign = nil
	all := Survey{
		foreign:      found,
		Revision:     revision,
		Planning:     m.planning,
		Members:      slices.Collect(maps.Values(m.members)),
		Acknowledged: maps.Clone(m.acknowledged),
		Remaining:    maps.Clone(m.remaining),
	}
	all.Members = all.sorted() // or a simulation would not be repeated
	return all
}

// surveyor is what a coordinator surveys by: a feed of everything, and everything as of the
// feed's last change. It is used by Survey, Claim and Swap, which one goroutine at a time calls.
type surveyor struct {
	feed    feed
	mirror  *mirror         // nil: to be read
	told    bool            // the watch has told something
	mine    []int64         // the revisions of the latest swaps and claims
	awaited map[string]bool // the incarnations whose acknowledgements gather; empty: each is surveyed at once
}

// end gives the watch up, and with it the mirror.
func (y *surveyor) end() {
	y.feed.close()
	y.mirror = nil
}

// awaits has acknowledgements of these incarnations gather.
func (y *surveyor) awaits(incarnations map[string]bool) { y.awaited = incarnations }

// gathers reports whether a change is an acknowledgement after which others are still awaited.
// That an instance has stopped for good is more than an acknowledgement.
func (y *surveyor) gathers(c kv.Change) bool {
	incarnation, note := strings.CutPrefix(c.Key, acknowledgedKeys)
	generation, _, err := readNote(c.Value)
	if !note || c.Gone || err != nil || generation == StoppedForGood {
		return false
	}
	delete(y.awaited, incarnation)
	return len(y.awaited) > 0
}

// wrote remembers a revision that need not be surveyed for itself.
func (y *surveyor) wrote(revision int64) {
	const enough = 16
	y.mine = append(y.mine, revision)
	y.mine = y.mine[max(0, len(y.mine)-enough):]
}
