package libcluster

import (
	"context"
	"fmt"
	"time"

	"github.com/libcluster/libcluster/kv"
)

// OnStore returns a registry on a store: the members' records, the plan and all
// else are records of a space that has the cluster's name, KEY/ENV or KEY/PARTITION/ENV.
// It can do all that a registry can, in every mode. The safety of [ModeExclusive] and
// [ModeCooperative] rests on
// what package kv asks of a store, to which package kv/kvtest holds it.
//
// The keys are those that [EtcdConfig] has below /KEY/ENV/. The records of all members
// together may take 32 MiB, as they may there.
func OnStore(store kv.Store) Registry { return storeRegistry{store} }

type storeRegistry struct{ store kv.Store }

// String returns the store's name for people, if it has one.
func (g storeRegistry) String() string {
	if named, ok := g.store.(fmt.Stringer); ok {
		return named.String()
	}
	return "a store"
}

// Capabilities are all there are.
func (g storeRegistry) Capabilities() Capabilities { return storeCapabilities }

var storeCapabilities = Capabilities{Members: true, Agreed: true, Expires: true, Reserves: true, Plans: true}

// Enter begins a membership. What a store refuses shows when it is asked.
func (g storeRegistry) Enter(r Registration) (Membership, error) {
	return &storeMembership{store: g.store, joiner: newJoiner(r)}, nil
}

// storeMembership is a membership in a store that is there already.
type storeMembership struct {
	store kv.Store
	joiner
}

// Join records the member under a new lease.
func (m *storeMembership) Join(ctx context.Context, own Member) (Session, time.Duration, error) {
	space, err := m.store.Open(ctx, m.reg.Cluster())
	if err != nil {
		return nil, 0, refused(err)
	}
	s, ttl, err := m.join(ctx, space, own)
	if err != nil {
		_ = space.Close() // the error that counts is the first
		return nil, 0, refused(err)
	}
	return s, ttl, nil
}

// refused marks an error to join that no retry can mend. Of the record another attempt may
// find another one.
func refused(err error) error {
	if isRefused(err) && !isFinal(err) {
		return Permanent(err)
	}
	return err
}
