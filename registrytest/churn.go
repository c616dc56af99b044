package registrytest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"github.com/stretchr/testify/require"
)

// manyJoinsAndLeavesStayExact has several goroutines change the cluster at
// random, and compares what everybody has seen in the end with a dumb twin.
func manyJoinsAndLeavesStayExact(s *suite) {
	const hands = 4
	changes, ids := 200, 12 // of each hand
	if s.h.Heavy {
		changes, ids = 40, 2
	}
	seed := rand.Uint64()
	s.Logf("seed %d", seed)
	watchers := []*instance{s.join("a"), s.join("zz"), s.join("p", passive())}
	twins := make([]map[string]int, hands)
	errs := make(chan error, hands)
	var changing sync.WaitGroup
	for hand := range hands {
		twins[hand] = map[string]int{}
		changing.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(hand)))
			own := map[string]*instance{}
			for range changes / hands {
				id := fmt.Sprintf("m%d-%d", hand, random.IntN(ids))
				if err := ops[random.IntN(len(ops))](s, own, twins[hand], id, 1+random.IntN(9)); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	changing.Wait()
	close(errs)
	for err := range errs {
		require.NoError(s, err)
	}
	want := map[string]int{"a": 1, "zz": 1}
	for _, twin := range twins {
		maps.Copy(want, twin)
	}
	watchers = append(watchers, s.join("p2", passive())) // that has seen nothing of it
	for _, w := range watchers {
		w.sees(twinSeen(want))
	}
}

// op changes the cluster and the twin, a map that says what everybody must see
// in the end.
type op func(s *suite, own map[string]*instance, twin map[string]int, id string, n int) error

// ops come with their weights.
var ops = []op{churnJoin, churnJoin, churnUpdate, churnLeave}

func churnJoin(s *suite, own map[string]*instance, twin map[string]int, id string, n int) error {
	i, err := s.tryJoin(id, workers(n))
	if err != nil {
		return fmt.Errorf("join %q: %w", id, err)
	}
	own[id], twin[id] = i, n // also over one that is there: a take-over
	return nil
}

func churnUpdate(s *suite, own map[string]*instance, twin map[string]int, id string, n int) error {
	i := own[id]
	if i == nil {
		return nil
	}
	if err := i.session.Update(s.within(), i.with(n)); err != nil {
		return fmt.Errorf("update %q: %w", id, err)
	}
	twin[id] = n
	return nil
}

func churnLeave(s *suite, own map[string]*instance, twin map[string]int, id string, _ int) error {
	i := own[id]
	if i == nil {
		return nil
	}
	delete(own, id)
	delete(twin, id)
	if err := i.tryLeave(); err != nil {
		return fmt.Errorf("leave %q: %w", id, err)
	}
	return nil
}

// twinSeen is what instance.seen returns of the same members.
func twinSeen(twin map[string]int) string {
	ids := slices.Sorted(maps.Keys(twin))
	for n, id := range ids {
		ids[n] = fmt.Sprintf("%s=%d", id, twin[id])
	}
	return strings.Join(ids, " ")
}
