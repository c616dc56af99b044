package libcluster_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

// observing is a registry that notes what it is told, and has a default TTL of its own.
type observing struct {
	libcluster.Registry
	libcluster.Membership
	ttl     time.Duration
	indexes []int
}

func (o *observing) Capabilities() libcluster.Capabilities {
	can := o.Registry.Capabilities()
	can.TTL = 3 * time.Second
	return can
}

func (o *observing) Enter(r libcluster.Registration) (_ libcluster.Membership, err error) {
	o.ttl = r.TTL
	o.Membership, err = o.Registry.Enter(r)
	return o, err
}

func (o *observing) Assigned(s libcluster.State) { o.indexes = append(o.indexes, s.Index) }

func TestRegistryLearnsOfAssignmentsAndOfLeaving(t *testing.T) {
	registry := &observing{Registry: libcluster.Static(2, 3)}
	c, err := libcluster.New(libcluster.Config{Key: "k", Registry: registry})
	require.NoError(t, err)
	require.NoError(t, c.Join(t.Context()))
	require.NoError(t, c.Leave(t.Context()))
	require.Equal(t, []int{2, -1}, registry.indexes)
}

func TestRegistryMayHaveADefaultTTLOfItsOwn(t *testing.T) {
	for given, want := range map[time.Duration]time.Duration{0: 3 * time.Second, time.Minute: time.Minute} {
		registry := &observing{Registry: libcluster.Static(0, 1)}
		_, err := libcluster.New(libcluster.Config{Key: "k", Registry: registry, TTL: given})
		require.NoError(t, err)
		require.Equal(t, want, registry.ttl)
	}
}
