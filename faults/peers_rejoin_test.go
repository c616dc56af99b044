//go:build linux && faults

package faults_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/libcluster/libcluster"
)

// The leader has carried out what a member's own server does not know yet: they are cut off from one another
// in between.
func TestHalfSucceededRejoinOnPeersDoesNotLockAMemberOut(t *testing.T) {
	all := startRemote(t, 0, 2*time.Second)
	members := joinMany(t, len(all), func(i int) libcluster.Config {
		return libcluster.Config{Registry: all[i].Peers}
	})
	row := figures{fault: "half a rejoin on peers"}
	for void := 0; row.trials < trials(2, 20); {
		lead := leaderOf(t, all, members) // and stays it, since its member does not become the primary
		m := members[(lead+1)%len(all)]
		w, stop := observe(t, all[lead].url())
		all[lead].line.slow(500 * time.Millisecond) // what it says to its followers
		var deleted *clientv3.DeleteResponse
		await(t, patience, "the record to be deleted", func() (done bool) { // a leadership that moves drops what is asked
			var err error
			deleted, err = w.client.Delete(t.Context(), prefix+m.ID())
			return err == nil
		})
		await(t, patience, "the record to be written again", func() bool {
			return w.written(prefix+m.ID()) > deleted.Header.Revision
		})
		for _, r := range all {
			r.line.cut(true, true)
		}
		half := !m.State().Active()
		known := len(m.reasons())
		if half {
			await(t, patience, "the attempt to be given up", func() bool {
				return slices.ContainsFunc(m.reasons()[known:], func(line string) bool { return strings.HasPrefix(line, "cannot join yet") })
			})
		}
		for _, r := range all {
			r.line.slow(0)
			r.line.heal(true)
		}
		stop()
		back := awaitWhole(t, patience, members)
		if !half {
			void++
			require.Less(t, void, 5, "the rejoin has always succeeded before the cut")
			continue
		}
		row.whole = append(row.whole, back)
		row.trials++
	}
	row.report(t)
}

// leaderOf returns which of the servers leads, when its member is not the primary.
func leaderOf(t *testing.T, all []remote, members []*member) (found int) {
	t.Helper()
	var clients []*clientv3.Client
	for _, r := range all {
		client := dial(t, r.url())
		defer client.Close()
		clients = append(clients, client)
	}
	await(t, patience, "a leader of the peers", func() bool {
		for n, client := range clients {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			status, err := client.Status(ctx, all[n].url())
			cancel()
			if err == nil && status.Leader != 0 && status.Leader == status.Header.MemberId && members[n].State().Index > 0 {
				found = n
				return true
			}
		}
		return false
	})
	return found
}
