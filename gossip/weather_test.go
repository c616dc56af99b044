package gossip_test

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/gossip"
)

var (
	firstWeather = flag.Uint64("first-weather", 1, "the seed of the first weather")
	weathers     = flag.Uint64("weathers", 4, "how many weathers there are")
)

// Instances come, go, end and change, while packets are lost, late or come twice, and ways are cut.
// When all is well again all know all. memberlist and the network draw numbers of their own, so a seed is
// no history.
func TestAnyWeatherEndsInAgreement(t *testing.T) {
	for seed := *firstWeather; seed < *firstWeather+*weathers; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, net *network) {
				s := &sailors{
					T: t, Rand: rand.New(rand.NewPCG(seed, 0)), net: net,
					where: net.addresses(7), aboard: map[int]*sailor{},
				}
				for range 80 {
					s.step()
					time.Sleep(time.Duration(s.IntN(3000)) * time.Millisecond)
				}
				s.calm()
				s.agree()
			})
		})
	}
}

// sailors are instances in a weather, by number. Some are aboard.
type sailors struct {
	*testing.T
	*rand.Rand
	net    *network
	where  []string
	aboard map[int]*sailor
}

type sailor struct {
	*libcluster.Cluster
	registry kept
	workers  int
	metadata map[string]string
}

func (s *sailors) step() {
	n := s.IntN(len(s.where))
	switch one := s.aboard[n]; s.IntN(12) {
	case 0, 1, 2, 3:
		if one == nil {
			s.comes(n)
		}
	case 4:
		if one != nil {
			leave(s, one.Cluster)
			delete(s.aboard, n)
		}
	case 5:
		if one != nil {
			gossip.Kill(one.registry.session(fmt.Sprint(n)))
			delete(s.aboard, n)
		}
	case 6, 7:
		if one != nil {
			s.changes(one)
		}
	case 8:
		side := slices.DeleteFunc(slices.Clone(s.where), func(string) bool { return s.IntN(2) == 0 })
		s.net.cut(side...)
	case 9:
		s.net.cutOneWay(s.where[n], s.where[s.IntN(len(s.where))])
	case 10:
		s.net.set(s.Float64()/2, s.Float64()/4, time.Duration(s.IntN(300))*time.Millisecond)
	case 11:
		s.calm()
	}
}

// comes has an instance join, which it does in any weather. A seed is where the first three are.
func (s *sailors) comes(n int) {
	one := &sailor{workers: 1, registry: keep(at(s.where[n], s.where[:3], s.net.world()))}
	one.Cluster = joined(s, fmt.Sprint(n), one.registry.Config, one.registry.given)
	s.aboard[n] = one
}

func (s *sailors) changes(one *sailor) {
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	defer cancel()
	if s.IntN(2) == 0 {
		one.workers = 1 + s.IntN(4)
		require.NoError(s, one.SetWorkers(ctx, one.workers))
	} else {
		one.metadata = map[string]string{"key": fmt.Sprint(s.IntN(100))}
		require.NoError(s, one.SetMetadata(ctx, one.metadata))
	}
}

func (s *sailors) calm() {
	s.net.cut()
	s.net.cutOneWay("", "")
	s.net.set(0, 0, 0)
}

// agree has all come aboard, and waits until all know all.
func (s *sailors) agree() {
	total := 0
	var ids []string
	for n := range s.where {
		if s.aboard[n] == nil {
			s.comes(n)
		}
		ids, total = append(ids, fmt.Sprint(n)), total+s.aboard[n].workers
	}
	for _, by := range s.aboard {
		sees(s, by.Cluster, ids...)
		eventually(s, "the total", func() bool { return by.State().Total == total })
		for _, m := range by.Members() {
			of := s.aboard[int(m.ID[0]-'0')]
			eventually(s, "the metadata of "+m.ID, func() bool {
				all := by.Members()
				at := slices.IndexFunc(all, func(a libcluster.Assignment) bool { return a.ID == m.ID })
				return at >= 0 && maps.Equal(all[at].Metadata, of.metadata) && all[at].Workers == of.workers
			})
		}
		require.NoError(s, by.Err())
	}
}
