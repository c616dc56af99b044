package libcluster_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

// simulated is the cluster that all join in virtual time.
const simulated = "mailer/production"

var (
	errDown  = errors.New("the registry is down")
	errReset = errors.New("the connection was reset")
)

// bubble is a registry and its instances, in virtual time.
type bubble struct {
	*testing.T
	*libclustertest.Registry
	all  []*libcluster.Cluster
	ends func() // ends what a test has started besides
}

func inBubble(t *testing.T, test func(b *bubble)) {
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{T: t, Registry: libclustertest.New(), ends: func() {}}
		defer b.leaveAll()
		test(b)
	})
}

// leaveAll ends what is left, also of a test that has failed.
func (b *bubble) leaveAll() {
	b.ends()
	b.HealAll()
	b.Intercept(nil)
	for _, c := range b.all {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		c.Leave(ctx)
		cancel()
	}
}

func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// instance makes an instance of exclusive mode with one worker.
func (b *bubble) instance(id string, change ...func(*libcluster.Config)) *libcluster.Cluster {
	cfg := libcluster.Config{Key: "mailer", ID: id, Registry: b.Registry, Mode: libcluster.ModeExclusive}
	for _, f := range change {
		f(&cfg)
	}
	c, err := libcluster.New(cfg)
	require.NoError(b.T, err)
	b.all = append(b.all, c)
	return c
}

// member makes one and has it join.
func (b *bubble) member(id string, change ...func(*libcluster.Config)) *libcluster.Cluster {
	c := b.instance(id, change...)
	b.joins(c)
	return c
}

func (b *bubble) joins(c *libcluster.Cluster) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	require.NoError(b.T, c.Join(ctx))
	wait(0)
}

// neverTwo looks at everybody's State for a while.
func (b *bubble) neverTwo(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); wait(5 * time.Millisecond) {
		var present []acting
		for _, c := range b.all {
			if s := c.State(); s.Active() {
				present = append(present, acting{c.ID(), s.Index, s.Workers, s.Total, s.Generation, 0, 1})
			}
		}
		x, y, found := findOverlap(present)
		require.False(b.T, found, "at %v: %v, and %v", time.Now(), x, y)
	}
}
