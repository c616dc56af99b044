package gossip_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/gossip"
)

func TestCutOffInstanceIsNoticedByProbes(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, net *network) {
		where := net.addresses(3)
		var all []*libcluster.Cluster
		for n, address := range where {
			all = append(all, joined(t, fmt.Sprint(n), at(address, where[:1], net.world())))
		}
		for _, c := range all {
			sees(t, c, "0", "1", "2")
		}
		net.cut(where[2])
		sees(t, all[0], "0", "1")
		sees(t, all[1], "0", "1")
		sees(t, all[2], "2")
	})
}

// The only seed has left by then, so all that the two sides know of each other is where they were.
// memberlist itself forgets them after half a minute.
func TestPartitionHeals(t *testing.T) {
	for _, lasts := range []time.Duration{0, 10 * time.Second, 10 * time.Minute} {
		t.Run(lasts.String(), func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, net *network) {
				where := net.addresses(5)
				first := newCluster(t, "0", at(where[0], nil, net.world()))
				join(t, first)
				var all []*libcluster.Cluster
				for n, address := range where[1:] {
					all = append(all, joined(t, fmt.Sprint(1+n), at(address, where[:1], net.world())))
				}
				for _, c := range all {
					sees(t, c, "0", "1", "2", "3", "4")
				}
				leave(t, first)
				for _, c := range all {
					sees(t, c, "1", "2", "3", "4")
				}
				net.cut(where[3:]...)
				over := time.After(lasts)
				for n, c := range all {
					if n < 2 {
						sees(t, c, "1", "2")
					} else {
						sees(t, c, "3", "4")
					}
				}
				<-over
				net.cut()
				for _, c := range all {
					sees(t, c, "1", "2", "3", "4")
				}
			})
		})
	}
}

// What one node has to say never comes to another one, by packets; and a connection needs both
// ways. Each reaches the others, who speak for it.
func TestOneWayCutLosesNobody(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, net *network) {
		var left atomic.Int64
		where := net.addresses(4)
		var all []*libcluster.Cluster
		for n, address := range where {
			config := at(address, where[:1], net.world())
			all = append(all, joined(t, fmt.Sprint(n), config, func(c *libcluster.Config) {
				c.OnMembers = func(change libcluster.MembersChange) { left.Add(int64(len(change.Left))) }
			}))
		}
		for _, c := range all {
			sees(t, c, "0", "1", "2", "3")
		}
		net.cutOneWay(where[0], where[1])
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		for n, c := range all {
			require.NoError(t, c.SetWorkers(ctx, 10+n))
		}
		for _, c := range all {
			eventually(t, "all changes", func() bool { return c.State().Total == 46 })
		}
		time.Sleep(time.Minute)
		require.Greater(t, net.losses(), 100, "each has probed the other many times")
		require.Zero(t, left.Load(), "nobody is lost")
	})
}

// Each ends without a word and is started anew elsewhere. The seeds say where all were once, and
// where one of them is now.
func TestStaleAddressesDoNoHarm(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, net *network) {
		stale, fresh := net.addresses(3), net.addresses(3)
		registry := keep(gossip.Config{})
		start := func(n int, address string, seeds []string) *libcluster.Cluster {
			registry.Config = at(address, seeds, net.world())
			return joined(t, fmt.Sprint(n), registry.Config, registry.given)
		}
		all := make([]*libcluster.Cluster, 3)
		for n, address := range stale {
			start(n, address, stale)
		}
		seeds := append([]string{fresh[0]}, stale...)
		for n, address := range fresh {
			gossip.Kill(registry.session(fmt.Sprint(n)))
			all[n] = start(n, address, seeds)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		require.NoError(t, all[2].SetWorkers(ctx, 5))
		for _, c := range all {
			sees(t, c, "0", "1", "2")
			eventually(t, "the new total", func() bool { return c.State().Total == 7 })
		}
	})
}

// Half of all packets are lost, so that what is old may come late.
func TestMetadataThatIsDeletedMayBeSetAgain(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, net *network) {
		net.loses = halfOfAll
		config := net.one()
		a, b, c := joined(t, "a", config), joined(t, "b", config), joined(t, "c", config)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		for _, metadata := range []map[string]string{
			{"key": "old", "other": "1"}, {"other": "2"}, {"key": "new", "other": "3"}, {}, {"key": "new", "other": "3"},
		} {
			require.NoError(t, a.SetMetadata(ctx, metadata))
			for _, by := range []*libcluster.Cluster{a, b, c} {
				sees(t, by, "a", "b", "c")
				eventually(t, "the metadata", func() bool { return maps.Equal(by.Members()[0].Metadata, metadata) })
			}
		}
	})
}

// All say all at once.
func TestThreeThousandKeysOfThirtyMembersArriveEverywhere(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, net *network) {
		const instances, keys, size = 30, 100, 100
		config := net.one()
		ids, all, said := make([]string, instances), make([]*libcluster.Cluster, instances), make([]map[string]string, instances)
		var joining, saying sync.WaitGroup
		for n := range instances {
			ids[n], said[n] = fmt.Sprintf("%02d", n), map[string]string{}
			for k := range keys {
				key := fmt.Sprintf("%s-%02d", ids[n], k)
				said[n][key] = strings.Repeat(fmt.Sprint(k%10), size-len(key))
			}
			all[n] = newCluster(t, ids[n], config)
			joining.Go(func() { join(t, all[n]) })
		}
		joining.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		for n, c := range all {
			saying.Go(func() { require.NoError(t, c.SetMetadata(ctx, said[n])) })
		}
		saying.Wait()
		for _, by := range all {
			sees(t, by, ids...)
			for n := range instances {
				eventually(t, "its keys", func() bool {
					members := by.Members()
					return len(members) == instances && maps.Equal(members[n].Metadata, said[n])
				})
			}
		}
	})
}

// Names tell which of two nodes at one port is the later one, and names are drawn from the clock.
func TestInstanceIsBackAtItsPortThoughItsClockWasSetBack(t *testing.T) {
	for _, id := range []string{"a", "b"} { // with the same ID, and with another one
		t.Run(id, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, net *network) {
				where, world := net.addresses(2), net.world()
				witness := joined(t, "witness", at(where[0], nil, world))
				registry := keep(at(where[1], where[:1], world))
				joined(t, "a", registry.Config, registry.given)
				sees(t, witness, "a", "witness")
				gossip.Kill(registry.session("a"))
				world.Now = func() time.Time { return time.Now().Add(-24 * time.Hour) }
				back := joined(t, id, at(where[1], where[:1], world))
				sees(t, back, id, "witness")
				sees(t, witness, id, "witness")
				require.NoError(t, back.Err())
			})
		})
	}
}
