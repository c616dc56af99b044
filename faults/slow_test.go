//go:build linux && faults

package faults_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

// With a TTL of 10 s there are ten round trips of 600 ms within the window.
func TestSlowLineFencesNobody(t *testing.T) {
	etcd := startServers(t, 1)
	l := newLine(t, etcd.all[0])
	l.slow(600 * time.Millisecond)
	m := join(t, libcluster.Config{ID: "slow", TTL: 10 * time.Second, Registry: libcluster.Etcd(l.url())})
	lasts(lasting(30*time.Second, time.Minute))
	m.mu.Lock()
	defer m.mu.Unlock()
	t.Logf("| round trips of 600 ms, TTL 10 s | fences %d |", len(m.told)/2)
	require.Len(t, m.told, 1, "%v", m.reasons())
}

// What a container has that is limited to one processor, and whose workers compute.
func TestBusyProcessorFencesNobody(t *testing.T) {
	etcd := startServers(t, 1)
	c := joinChild(t, part{URLs: etcd.urls(), ID: "busy", TTL: 10 * time.Second, Busy: 16})
	lasts(lasting(30*time.Second, time.Minute))
	fences, active := 0, true
	acts := c.acts()
	for _, a := range acts {
		if active && a.index < 0 {
			fences++
		}
		active = a.index >= 0
	}
	t.Logf("| 16 that compute on one processor, TTL 10 s | fences %d in %v |", fences, acts[len(acts)-1].at-acts[0].at)
	require.Zero(t, fences)
}
