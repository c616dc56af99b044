package gossip_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
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
// memberlist itself forgets them after half a minute. However long it lasts, the next look for those that
// are down finds one, and a second later all are together again.
func TestPartitionHeals(t *testing.T) {
	for _, c := range []struct {
		all, cut int
		lasts    time.Duration
	}{{4, 2, 0}, {4, 2, 10 * time.Second}, {4, 2, 10 * time.Minute}, {crowd - 1, 5, time.Minute}} {
		t.Run(fmt.Sprint(c.cut, " of ", c.all, " for ", c.lasts), func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, net *network) {
				where := net.addresses(1 + c.all)
				first := newCluster(t, "first", at(where[0], nil, net.world()))
				join(t, first)
				var all []*libcluster.Cluster
				var ids []string
				for n, address := range where[1:] {
					ids = append(ids, fmt.Sprintf("%02d", n))
					all = append(all, joined(t, ids[n], at(address, where[:1], net.world())))
				}
				for _, i := range all {
					sees(t, i, append(slices.Clone(ids), "first")...)
				}
				leave(t, first)
				for _, i := range all {
					sees(t, i, ids...)
				}
				net.cut(where[1:][:c.cut]...)
				over := time.After(c.lasts)
				for n, i := range all {
					if n < c.cut {
						sees(t, i, ids[:c.cut]...)
					} else {
						sees(t, i, ids[c.cut:]...)
					}
				}
				<-over
				net.cut()
				began := time.Now()
				for _, i := range all {
					sees(t, i, ids...)
				}
				require.LessOrEqual(t, time.Since(began), 6*time.Second)
			})
		})
	}
}

// It ends before, while or after the two look for each other, and a look that finds nobody takes three
// seconds. Each look begins five seconds after the one before at the latest.
func TestPartitionHealsWheneverItEnds(t *testing.T) {
	for lasts := time.Minute; lasts < time.Minute+10*time.Second; lasts += time.Second / 2 {
		t.Run(lasts.String(), func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, net *network) {
				where := net.addresses(2)
				a, b := joined(t, "a", at(where[0], nil, net.world())), joined(t, "b", at(where[1], where[:1], net.world()))
				sees(t, a, "a", "b")
				sees(t, b, "a", "b")
				net.cut(where[0])
				time.Sleep(lasts)
				net.cut()
				began := time.Now()
				sees(t, a, "a", "b")
				sees(t, b, "a", "b")
				require.LessOrEqual(t, time.Since(began), 6*time.Second)
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

// The others notice only later that the instance has gone, so SetWorkers waits for its answer.
func TestOneThatDoesNotAnswerIsNotWaitedForLong(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, net *network) {
		where := net.addresses(3)
		var all []*libcluster.Cluster
		for n, address := range where {
			all = append(all, joined(t, fmt.Sprint(n), at(address, where, gossip.World{Listen: net.listen, Probe: never})))
		}
		for _, c := range all {
			sees(t, c, "0", "1", "2")
		}
		net.stop(where[2])
		time.AfterFunc(10*latency, func() { assert.Equal(t, 12, all[1].State().Total, "the others know at once") })
		began := time.Now()
		require.NoError(t, all[0].SetWorkers(t.Context(), 10))
		require.Equal(t, time.Second, time.Since(began).Round(100*time.Millisecond))
	})
}

// A process that is stopped: connections to it are made, and nobody reads. The others hold up
// nothing for it, and take it for dead until it goes on.
func TestStoppedMemberHoldsUpNobody(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, net *network) {
		where := net.addresses(4)
		var all []*libcluster.Cluster
		for n, address := range where {
			all = append(all, joined(t, fmt.Sprint(n), at(address, where, net.world())))
		}
		for _, c := range all {
			sees(t, c, "0", "1", "2", "3")
		}
		net.stop(where[3])
		began := time.Now()
		for _, c := range all[:3] {
			sees(t, c, "0", "1", "2")
		}
		require.Less(t, time.Since(began), 3*time.Second)
		again := joined(t, "4", gossip.Config{Bind: net.addresses(1)[0], Seeds: where}.In(net.world()))
		sees(t, again, "0", "1", "2", "4")
		require.Less(t, time.Since(began), 10*time.Second, "nor does it hold up who joins by it")
		net.stop()
		for _, c := range append(all, again) {
			sees(t, c, "0", "1", "2", "3", "4")
		}
	})
}

// All end without a word and are started anew elsewhere, at once. The seeds say where all were once,
// and where one of them is now.
func TestStaleAddressesDoNoHarm(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, net *network) {
		stale, fresh := net.addresses(crowd), net.addresses(crowd)
		registry := keep(gossip.Config{})
		prepare := func(n int, address string, seeds []string) *libcluster.Cluster {
			registry.Config = at(address, seeds, net.world())
			return newCluster(t, fmt.Sprintf("%02d", n), registry.Config, registry.given)
		}
		for n, address := range stale {
			join(t, prepare(n, address, stale))
		}
		for n := range crowd {
			gossip.Kill(registry.session(fmt.Sprintf("%02d", n)))
		}
		ids, all := make([]string, crowd), make([]*libcluster.Cluster, crowd)
		var joining sync.WaitGroup
		for n, address := range fresh {
			ids[n], all[n] = fmt.Sprintf("%02d", n), prepare(n, address, append(slices.Clone(stale), fresh[0]))
			joining.Go(func() { join(t, all[n]) })
		}
		joining.Wait()
		require.NoError(t, all[2].SetWorkers(t.Context(), 5))
		for _, c := range all {
			sees(t, c, ids...)
			eventually(t, "the new total", func() bool { return c.State().Total == crowd+4 })
		}
	})
}

// Half of all packets are lost, and some come twice, so that what is old may come late.
func TestMetadataThatIsDeletedMayBeSetAgain(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, net *network) {
		net.set(0.5, 0.25, time.Second)
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
func TestWhatManyMembersSayArrivesEverywhere(t *testing.T) {
	for _, c := range []struct{ keys, size int }{{100, 100}, {1, 64<<10 - 100}} { // the latter are the largest records
		t.Run(fmt.Sprint(c.keys, " keys of ", c.size, " bytes each"), func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, net *network) { saysAll(t, net, c.keys, c.size) })
		})
	}
}

func saysAll(t *testing.T, net *network, keys, size int) {
	config := net.one()
	ids, all, said := make([]string, crowd), make([]*libcluster.Cluster, crowd), make([]map[string]string, crowd)
	var joining, saying sync.WaitGroup
	for n := range crowd {
		ids[n], said[n] = fmt.Sprintf("%02d", n), map[string]string{}
		for k := range keys {
			key := fmt.Sprintf("%s-%02d", ids[n], k)
			said[n][key] = strings.Repeat(fmt.Sprint(k%10), size-len(key))
		}
		all[n] = newCluster(t, ids[n], config)
		joining.Go(func() { join(t, all[n]) })
	}
	joining.Wait()
	for n, c := range all {
		saying.Go(func() { assert.NoError(t, c.SetMetadata(t.Context(), said[n])) })
	}
	saying.Wait()
	for _, by := range all {
		sees(t, by, ids...)
		for n := range crowd {
			eventually(t, "its keys", func() bool {
				members := by.Members()
				return len(members) == crowd && maps.Equal(members[n].Metadata, said[n])
			})
		}
	}
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
