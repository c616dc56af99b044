//go:build linux && faults

package faults_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

// An attempt to rejoin can have written the record without the member knowing.
// What it then finds is its own, not that of another instance.
func TestHalfSucceededRejoinDoesNotLockAMemberOut(t *testing.T) {
	t.Run("the answer to the write is lost, and so is its undoing", func(t *testing.T) {
		testHalfRejoin(t, 300*time.Millisecond, func(l *line) {
			l.cut(true, true)
			lasts(5 * time.Second) // the write and what would undo it are given up
			l.heal(true)
		})
	})
	t.Run("the renewal after a slow join fails", func(t *testing.T) {
		testHalfRejoin(t, 900*time.Millisecond, func(l *line) {
			lasts(1200 * time.Millisecond) // the answer to the write, and then a renewal is sent
			l.reset()
		})
	})
}

// testHalfRejoin has spoil act when the record of a member that rejoins was
// written and the answer, which takes a while, has not arrived.
func testHalfRejoin(t *testing.T, slow time.Duration, spoil func(*line)) {
	etcd := startServers(t, 1)
	l := newLine(t, etcd.all[0])
	m := join(t, libcluster.Config{ID: "m", Registry: libcluster.Etcd(l.url())})
	w, _ := observe(t, etcd.urls()...)
	l.slow(slow)
	deleted, err := w.client.Delete(t.Context(), prefix+"m")
	require.NoError(t, err)
	await(t, patience, "the record to be written again", func() bool {
		return w.written(prefix+"m") > deleted.Header.Revision
	})
	spoil(l)
	l.slow(0)
	// What was in flight when the fault ended may have to be given up first.
	row := figures{fault: "half a rejoin: " + title(t), trials: 1}
	row.whole = append(row.whole, awaitWhole(t, patience, []*member{m}))
	row.report(t)
}
