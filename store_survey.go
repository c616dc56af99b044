package libcluster

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/libcluster/libcluster/kv"
)

// gatherPause is how long an acknowledgement waits for the others, so that one survey does for
// many. The last one does not wait.
const gatherPause = 25 * time.Millisecond

// surveyor is what a coordinator surveys by: a feed of everything, and everything as of the
// feed's last change. It is used by Survey, Claim and Swap, which one goroutine at a time calls.
type surveyor struct {
	feed    feed
	mirror  *mirror         // nil: to be read
	told    bool            // the watch has told something
	mine    []int64         // the revisions of the latest swaps and claims
	awaited map[string]bool // the incarnations whose acknowledgements gather; empty: each is surveyed at once
}

// Survey reads everything at once, and from then on learns from a watch what has become
// of it: what a survey says may be a little old, as any answer may, and is never a
// mixture. The watch is opened before the first read, as in open.
func (s *storeSession) Survey(ctx context.Context, after int64) (Survey, error) {
	y := &s.surveyor
	if y.mirror != nil && after > 0 {
		if err := y.await(ctx, s, after); err != nil {
			return Survey{}, err
		}
		if y.mirror != nil {
			return y.mirror.survey(y.feed.at), nil
		}
	}
	if err := s.attempts.tooLarge(); err != nil {
		return Survey{}, err
	}
	if y.feed.watch == nil {
		y.told = false
		y.feed.read(0)
		if err := y.feed.open(ctx); err != nil {
			return Survey{}, err
		}
	}
	heard := y.feed.at
	mirror, err := s.readMirror(ctx)
	if err != nil {
		y.end()
		return Survey{}, err
	}
	late := y.mirror != nil && mirror.latest > heard
	y.mirror = mirror
	y.feed.read(mirror.mark.Revision)
	survey := mirror.survey(mirror.mark.Revision)
	if late {
		y.end() // the watch should have told, and another one may do better
	}
	return survey, nil
}

// end gives the watch up, and with it the mirror.
func (y *surveyor) end() {
	y.feed.close()
	y.mirror = nil
}

// await waits until the watch has told something new, and of our own latest write, or has
// ended.
func (y *surveyor) await(ctx context.Context, s *storeSession, after int64) error {
	own := int64(0)
	if n := len(y.mine); n > 0 {
		own = y.mine[n-1]
	}
	gather := ctx
	for fresh := false; !fresh || y.feed.at < own; {
		changes, err := y.feed.next(gather)
		switch {
		case err != nil && gather.Err() != nil && ctx.Err() == nil:
			fresh, gather = true, ctx
			continue
		case err != nil && ctx.Err() != nil:
			if errors.Is(ctx.Err(), context.Canceled) {
				y.end() // nobody coordinates here any more
			}
			return err
		case err != nil || y.feed.missed:
			y.end()
			if !y.told { // or it would be opened again at once, for ever
				return errors.Join(errors.New("the coordinator's watch has ended"), err)
			}
			return nil
		}
		if err := s.heard(changes.Mark); err != nil {
			y.end()
			return err
		}
		y.told = true
		for _, c := range changes.Records {
			y.mirror.reflect(c.Record, c.Gone)
			if c.Version <= after || slices.Contains(y.mine, c.Version) {
				continue
			}
			if fresh = fresh || !y.gathers(c); !fresh && gather == ctx {
				var cancel context.CancelFunc
				gather, cancel = context.WithTimeout(ctx, gatherPause)
				defer cancel()
			}
		}
		if err := s.attempts.check(s.prefix, y.mirror.weights); err != nil {
			y.end()
			return err
		}
	}
	return nil
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

// readMirror reads everything, as of one revision.
func (s *storeSession) readMirror(ctx context.Context) (*mirror, error) {
	before := s.latest()
	m := &mirror{prefix: s.prefix, members: make(map[string]Recorded), acknowledged: make(map[string]int64), remaining: make(map[string]string), weights: newWeights()}
	mark, err := s.space.List(ctx, "", func(r kv.Record) error {
		m.latest = max(m.latest, r.Version)
		m.reflect(r, false)
		return s.attempts.check(s.prefix, m.weights)
	})
	m.mark = mark
	if err == nil {
		err = s.sameStore(before, mark)
	}
	return m, err
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

// Look reads everything at once. It touches nothing that Next or Survey use.
func (s *storeSession) Look(ctx context.Context) (Survey, error) {
	if err := s.attempts.tooLarge(); err != nil {
		return Survey{}, err
	}
	var m *mirror
	err := s.insist(ctx, func(ctx context.Context) (err error) {
		m, err = s.readMirror(ctx)
		return err
	})
	if err != nil {
		return Survey{}, err
	}
	return m.survey(m.mark.Revision), nil
}
