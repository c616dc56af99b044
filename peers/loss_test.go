//go:build faults && linux

package peers_test

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// election is for how long the peers may be without a leader before an instance is fenced whose last
// renewal was almost due again.
const election = time.Second

func TestLossOfTheLeaderFencesNoOther(t *testing.T) {
	for _, way := range []string{"kill -9", "SIGSTOP"} {
		t.Run(way, func(t *testing.T) {
			all := spawnAll(t, "direct", files(t, 3, nil)...)
			var took []time.Duration
			for void := 0; len(took) < *trials; {
				active(t, all...)
				settled(t, all...)
				lead := leader(t, all...)
				rest := without(lead, all)
				told := [][]event{statesOf(rest[0]), statesOf(rest[1])}
				began := time.Now()
				if way == "kill -9" {
					lead.kill()
				} else {
					lead.signal(t, syscall.SIGSTOP)
				}
				elected := writable(t, rest...).Sub(began)
				active(t, rest...)
				if way == "kill -9" {
					all = append(rest, spawn(t, lead.file, "direct"))
				} else {
					lead.signal(t, syscall.SIGCONT)
				}
				active(t, all...)
				if elected > election {
					void++
					require.Less(t, void, 5, "there is no leader for too long: %v", elected)
					continue
				}
				for n, p := range rest {
					for _, e := range statesOf(p)[len(told[n]):] {
						require.NotEqual(t, -1, e.Index, "%s has lost its place, though another server led after %v", p.id, elected)
					}
				}
				took = append(took, elected)
			}
			t.Log("another one leads after", times(took))
		})
	}
}

// writable returns when one of the servers has taken a write.
func writable(t *testing.T, all ...*process) time.Time {
	t.Helper()
	var clients []*clientv3.Client
	for _, p := range all {
		client, _, err := clientTo(p.file)
		require.NoError(t, err)
		defer client.Close()
		clients = append(clients, client)
	}
	eventually(t, "a write", func() bool {
		for _, client := range clients {
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			_, err := client.Put(ctx, "owner", "")
			cancel()
			if err == nil {
				return true
			}
		}
		return false
	})
	return time.Now()
}

// Leases of incarnations that are over are left to expire, or are revoked.
func TestNothingIsLeftAfterFaults(t *testing.T) {
	for mode, beside := range map[string]int{"direct": 0, "exclusive": 1} { // a plan, which is empty
		t.Run(mode, func(t *testing.T) {
			net := newNetwork(t, 3)
			all := net.spawnAll(t, mode)
			for _, role := range []string{"primary", "leader", "follower"} {
				active(t, all...)
				settled(t, all...)
				victim := roles[role](t, all)
				victim.kill()
				active(t, without(victim, all)...)
				all[hostOf(victim)] = net.spawn(t, hostOf(victim), mode)

				active(t, all...)
				victim = roles[role](t, all)
				net.cut(victim)
				active(t, without(victim, all)...)
				idles(t, victim)
				net.mend(victim)

				active(t, all...)
				victim = roles[role](t, all)
				victim.signal(t, syscall.SIGSTOP)
				active(t, without(victim, all)...)
				victim.signal(t, syscall.SIGCONT)
			}
			active(t, all...)
			client, _, err := clientTo(all[0].file)
			require.NoError(t, err)
			defer client.Close()
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			left := func() (leases int, keys []string) {
				all, err := client.Leases(ctx)
				require.NoError(t, err)
				got, err := client.Get(ctx, "", clientv3.WithPrefix(), clientv3.WithKeysOnly())
				require.NoError(t, err)
				for _, pair := range got.Kvs {
					keys = append(keys, string(pair.Key))
				}
				return len(all.Leases), keys
			}
			eventually(t, "nothing but the leases of those who are there", func() bool {
				leases, _ := left()
				return leases == len(all)
			})
			for _, p := range all {
				p.order(t, "quit")
				eventually(t, p.id+" leaves", func() bool { _, left := p.last("left"); return left })
			}
			eventually(t, "no lease is left", func() bool {
				leases, _ := left()
				return leases == 0
			})
			_, keys := left()
			require.Len(t, keys, beside, "%v", keys)
		})
	}
}
