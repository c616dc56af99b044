//go:build !wasm

package libcluster

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// etcdSurveyor is what a coordinator surveys by: a watch of everything, and everything as
// of the watch's last event.
type etcdSurveyor struct {
	watch  *etcdWatch // nil: to be opened
	mirror *etcdMirror
	read   int64   // the revision that mirror was read at
	heard  int64   // the revision that it is of
	mine   []int64 // the revisions of the latest swaps and claims
	told   bool    // the watch has told something
}

// Survey reads everything below the cluster's key at once, and from then on learns
// from a watch what has become of it: what a survey says may be a little old, as any
// answer may, and is never a mixture. The watch is opened before the first read, as
// in open.
func (s *etcdSession) Survey(ctx context.Context, after int64) (Survey, error) {
	y := &s.surveys
	if y.watch != nil && after > 0 {
		if err := y.await(ctx, s, after); err != nil {
			return Survey{}, err
		}
		if y.watch != nil {
			return y.survey(), nil
		}
	}
	if err := s.ctx.Err(); err != nil {
		return Survey{}, err // the session is closed, and that is why the watch has ended
	}
	if err := s.notes.tooLarge(); err != nil {
		return Survey{}, err
	}
	if y.watch == nil {
		y.told = false
		y.watch = s.openWatch(ctx, min(s.timeout, s.ttl/silentPart), s.prefix)
	}
	before := s.mark()
	mirror, latest, err := s.readMirror(ctx)
	if err == nil {
		err = s.sameStore(before, mirror.header)
	}
	if err != nil {
		y.end()
		return Survey{}, err
	}
	late := y.mirror != nil && latest > y.heard
	y.mirror, y.read, y.heard = mirror, mirror.header.Revision, mirror.header.Revision
	survey := y.survey()
	if late {
		y.end() // the watch should have told: the next one goes to another server
	}
	return survey, nil
}

// survey returns what the mirror shows.
func (y *etcdSurveyor) survey() Survey {
	if y.mirror == nil {
		return Survey{}
	}
	return y.mirror.survey(y.heard)
}

// end gives the watch up, and with it the mirror.
func (y *etcdSurveyor) end() {
	if y.watch != nil {
		y.watch.stop()
		y.watch, y.mirror = nil, nil
	}
}

// await waits until the watch has told something new, and of our own latest
// write, or has ended; then takes what else it has ready.
func (y *etcdSurveyor) await(ctx context.Context, s *etcdSession, after int64) error {
	own := int64(0)
	if n := len(y.mine); n > 0 {
		own = y.mine[n-1]
	}
	for fresh := false; !fresh || y.heard < own || len(y.watch.answers) > 0; {
		select {
		case answer, ok := <-y.watch.answers:
			if !ok || answer.Err() != nil {
				y.end()
				if !y.told { // or it would be opened again at once, for ever
					return errors.New("the coordinator's watch was closed")
				}
				return nil
			}
			y.told = true
			fresh = y.hear(s, answer.Events, after) || fresh
			if err := s.check(y.mirror.weights); err != nil {
				y.end()
				return err
			}
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				y.end() // nobody coordinates here any more
			}
			return context.Cause(ctx)
		}
	}
	return nil
}

// hear brings the mirror up to date, and reports whether something is new.
func (y *etcdSurveyor) hear(s *etcdSession, events []*clientv3.Event, after int64) (fresh bool) {
	for _, e := range events {
		if e.Kv.ModRevision <= y.read {
			continue
		}
		y.heard = max(y.heard, e.Kv.ModRevision)
		y.mirror.reflect(s, e.Kv, e.Type == clientv3.EventTypeDelete)
		fresh = fresh || e.Kv.ModRevision > after && !slices.Contains(y.mine, e.Kv.ModRevision)
	}
	return fresh
}

// wrote remembers a revision that need not be surveyed for itself.
func (y *etcdSurveyor) wrote(revision int64) {
	const enough = 16
	y.mine = append(y.mine, revision)
	y.mine = y.mine[max(0, len(y.mine)-enough):]
}

// etcdMirror is what etcd holds below the cluster's key, as far as it means anything.
type etcdMirror struct {
	planning Planning
	members  map[string]Recorded // by ID
	drained  map[string]int64    // by incarnation
	foreign  []foreign           // since the last survey
	weights  *weights
	header   *pb.ResponseHeader // of the answer that it was read with
}

func newEtcdMirror() *etcdMirror {
	return &etcdMirror{members: make(map[string]Recorded), drained: make(map[string]int64), weights: newWeights()}
}

// readMirror reads everything below the cluster's key, as of one revision. It also returns
// the latest revision that any of it was written at.
func (s *etcdSession) readMirror(ctx context.Context) (m *etcdMirror, latest int64, err error) {
	err = s.paged(ctx, func(whole context.Context) error {
		ctx, cancel := context.WithTimeout(whole, s.timeout)
		defer cancel()
		got, err := s.client.Do(ctx, s.firstPage(s.prefix))
		if err != nil {
			return err
		}
		m, latest = newEtcdMirror(), 0
		m.header = got.Get().Header
		return s.pages(whole, s.prefix, m.header, got.Get(), func(kv *mvccpb.KeyValue) error {
			latest = max(latest, kv.ModRevision)
			m.reflect(s, kv, false)
			return s.check(m.weights)
		})
	})
	return m, latest, err
}

// reflect brings the mirror up to date with one key.
func (m *etcdMirror) reflect(s *etcdSession, kv *mvccpb.KeyValue, gone bool) {
	name := strings.TrimPrefix(string(kv.Key), s.prefix)
	if strings.HasPrefix(name, etcdPublic) {
		s.planned(&m.planning, kv, gone)
		return
	}
	if incarnation, drained := strings.CutPrefix(name, etcdDrained); drained {
		generation, err := strconv.ParseInt(string(kv.Value), 10, 64)
		if gone || err != nil || kv.Lease == 0 {
			delete(m.drained, incarnation)
			m.weights.put(name, 0)
		} else {
			m.drained[incarnation] = generation
			m.weights.put(name, len(kv.Key)+recordCost)
		}
		return
	}
	e, why := s.event(kv, gone)
	m.foreign = s.found(m.foreign, kv, why)
	m.weights.member(e, kv)
	if e.Gone {
		delete(m.members, name)
		return
	}
	found := Recorded{Member: e.Member, Since: kv.CreateRevision}
	if kv.Lease != 0 {
		found.Incarnation = incarnationOf(clientv3.LeaseID(kv.Lease))
	}
	m.members[name] = found
}

func (m *etcdMirror) survey(revision int64) Survey {
	found := m.foreign
	m.foreign = nil
	return Survey{
		foreign:  found,
		Revision: revision,
		Planning: m.planning,
		Members:  slices.Collect(maps.Values(m.members)),
		Drained:  maps.Clone(m.drained),
	}
}
