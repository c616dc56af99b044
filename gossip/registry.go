package gossip

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
)

// errClosed is what a session returns that has been left or closed.
var errClosed = errors.New("gossip: the session is closed")

// Capabilities are that members see one another, and no more: what one instance knows another
// may not know yet, so there is no agreed generation, and nothing to keep a plan in. A TTL only
// means something where Expect is set, and is 3 s by default.
func (c Config) Capabilities() libcluster.Capabilities {
	can := libcluster.Capabilities{Members: true}
	if c.Expect > 0 {
		can.TTL = defaultTTL
	}
	return can
}

// Enter begins a membership. It returns an error if a field of the Config is wrong, which the
// error names.
func (c Config) Enter(r libcluster.Registration) (libcluster.Membership, error) {
	if r.Logger == nil {
		r.Logger = zap.NewNop()
	}
	return &membership{cfg: c.clone(), reg: r}, c.validate()
}

// membership has one node for all its sessions.
type membership struct {
	cfg    Config
	reg    libcluster.Registration
	since  int64 // when the membership began, as in entry; only Join uses it
	joined bool  // a Join has succeeded; only Join uses it

	mu        sync.Mutex // guards what follows
	node      *node      // nil: none runs
	lingering *time.Timer
}

// Assigned is of no use.
func (*membership) Assigned(libcluster.State) {}

// Join finds the others, and publishes the record. It returns when all nodes that are up have
// it, and an instance that had the ID before knows that.
func (m *membership) Join(ctx context.Context, member libcluster.Member) (libcluster.Session, time.Duration, error) {
	if err := fits(member); err != nil {
		return nil, 0, libcluster.Permanent(err)
	}
	n, isNew, err := m.running(ctx)
	if err != nil {
		return nil, 0, err
	}
	s, ttl, err := m.enter(ctx, n, isNew, member)
	if err == nil {
		m.joined = true
		return s, ttl, nil
	}
	if isNew {
		m.drop(n)
		n.leave(ctx)
	} else {
		m.linger(n)
	}
	return nil, 0, err
}

// running returns the node, and whether it has just been started.
func (m *membership) running(ctx context.Context) (n *node, isNew bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lingering != nil {
		m.lingering.Stop()
	}
	if m.node != nil {
		return m.node, false, nil
	}
	m.node, err = start(ctx, m.cfg, m.reg)
	return m.node, true, err
}

// drop has the next Join start another node. It reports whether n was the present one.
func (m *membership) drop(n *node) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	was := m.node == n
	if was {
		m.node = nil
	}
	return was
}

// linger has the node run for a little while, in which the next Join finds it, and then stop
// unless a session is open.
func (m *membership) linger(n *node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.node != n {
		return
	}
	m.lingering = time.AfterFunc(m.cfg.world().linger, func() {
		if m.unused(n) {
			n.stop()
		}
	})
}

// unused drops the node if its last session is closed.
func (m *membership) unused(n *node) bool {
	n.mu.Lock()
	open := n.session != nil && n.session.err == nil
	n.mu.Unlock()
	return !open && m.drop(n)
}

func (m *membership) enter(ctx context.Context, n *node, isNew bool, member libcluster.Member) (*session, time.Duration, error) {
	if isNew {
		if err := n.find(ctx); err != nil {
			if errors.Is(err, errSecret) {
				err = libcluster.Permanent(err)
			}
			return nil, 0, err
		}
	}
	if m.reg.Passive {
		s, err := n.open(m)
		return s, 0, err
	}
	own, before, err := m.claim(n, member)
	if err != nil {
		return nil, 0, err
	}
	if err := n.introduce(ctx, own, before.Node, m.ttl()); err != nil {
		return nil, 0, err
	}
	s, err := n.open(m)
	return s, m.ttl(), err
}

// ttl is for how long the others keep a record that is not renewed; 0: there is no need to.
func (m *membership) ttl() time.Duration {
	if m.cfg.Expect == 0 || m.reg.Passive {
		return 0
	}
	return m.reg.TTL
}

// claim publishes the record if this instance may have the ID, and returns the entry that had
// it before.
func (m *membership) claim(n *node, member libcluster.Member) (own, before entry, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	others, _ := n.records.members(now)
	if e, there := others[member.ID]; there && e.Node != n.name {
		before = e
		total := int64(member.Workers)
		for id, other := range others {
			if id != member.ID {
				total += int64(other.member.Workers)
			}
		}
		switch {
		case m.joined && e.Since > m.since:
			return own, before, libcluster.ErrInstanceTaken
		case total > libcluster.MaxWorkers: // it would be refused, and must not take the ID before
			return own, before, libcluster.Permanent(fmt.Errorf("Workers: the cluster's total would be %d, must be at most %d",
				total, libcluster.MaxWorkers))
		}
	}
	if !m.joined {
		m.since = max(m.cfg.world().now().UnixMilli(), before.Since+1)
	}
	own = n.publish(func(e *entry) {
		e.Node, e.ID, e.Since, e.Gone = n.name, member.ID, m.since, false
		e.Record, e.member = member.Record(), member
	})
	return own, before, nil
}

// introduce tells everybody of the record, and waits until the node that had the ID before
// knows of it, or is down, and until a majority vouches for it if one must.
func (n *node) introduce(ctx context.Context, own entry, before string, ttl time.Duration) error {
	all, vouchers, logged := everybody(), 0, false
	err := n.tell(ctx, own, ttl, func(q *question, silent []string) bool {
		vouchers = n.vouchers(q)
		if slices.Contains(silent, before) || !all(q, silent) {
			return false
		}
		if vouchers >= n.cfg.majority() {
			return true
		}
		if !logged {
			n.log.Warn("waiting for a majority of Expect", zap.Int("here", vouchers+1), zap.Int("expect", n.cfg.Expect))
			logged = true
		}
		return false
	})
	if err != nil && vouchers < n.cfg.majority() {
		err = n.tooFew(vouchers, err)
	}
	return err
}

// fits returns why a record cannot be published.
func fits(member libcluster.Member) error {
	var record struct{ Mode libcluster.Mode }
	_ = json.Unmarshal(member.Record(), &record) // a record that is only a number has no mode
	if record.Mode != libcluster.ModeDirect {
		return &libcluster.ModeError{Mode: record.Mode, Cluster: libcluster.ModeDirect}
	}
	_, err := libcluster.ParseMember(member.ID, member.Record())
	return err
}
