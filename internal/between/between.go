// Package between has tests stand between a cluster and its registry.
package between

import (
	"context"
	"time"

	"github.com/libcluster/libcluster"
)

// Registry is a registry with something between it and each attempt to join.
type Registry struct {
	libcluster.Registry
	// Joining has the attempt in the membership below.
	Joining func(ctx context.Context, m libcluster.Member, below libcluster.Membership) (libcluster.Session, time.Duration, error)
}

// Enter begins a membership.
func (r Registry) Enter(reg libcluster.Registration) (libcluster.Membership, error) {
	below, err := r.Registry.Enter(reg)
	return membership{below, r}, err
}

type membership struct {
	libcluster.Membership // below
	of                    Registry
}

func (m membership) Join(ctx context.Context, own libcluster.Member) (libcluster.Session, time.Duration, error) {
	return m.of.Joining(ctx, own, m.Membership)
}

// Join joins once, in a membership of its own.
func Join(ctx context.Context, registry libcluster.Registry, r libcluster.Registration) (libcluster.Session, time.Duration, error) {
	m, err := registry.Enter(r)
	if err != nil {
		return nil, 0, err
	}
	return m.Join(ctx, r.Member)
}
