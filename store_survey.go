package libcluster

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/libcluster/libcluster/kv"
)

// gatherPause is how long an acknowledgement waits for the others, so that one survey does for
// many. The last one does not wait.
const gatherPause = 25 * time.Millisecond

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
