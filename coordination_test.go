package libcluster_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

// The members acknowledge one after another, a millisecond apart.
func TestACoordinatorSurveysForTheFirstAndTheLastAcknowledgementOnly(t *testing.T) {
	const members = 20
	vanishes := func(b *bubble) {
		b.Cut("m19")
		require.True(b.T, b.Expire(simulated, "m19"))
		wait(time.Second)
	}
	for name, c := range map[string]struct {
		mode   func(*libcluster.Config)
		before func(*bubble)
		gives  int
	}{
		"exclusive":                             {func(*libcluster.Config) {}, func(*bubble) {}, members},
		"cooperative":                           {cooperative(members * (members + 1)), func(*bubble) {}, members},
		"cooperative, beside one that vanished": {cooperative(members * (members + 1)), vanishes, members - 1},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				var joining sync.WaitGroup
				for i := range members {
					m := b.instance(fmt.Sprintf("m%02d", i), c.mode)
					joining.Go(func() { m.Join(context.Background()) })
				}
				joining.Wait()
				wait(time.Minute)
				c.before(b)
				var surveys, acknowledged atomic.Int32
				b.Intercept(func(ctx context.Context, call libclustertest.Call) error {
					if call.Op == libclustertest.OpAcknowledge {
						time.Sleep(time.Duration(acknowledged.Add(1)) * time.Millisecond)
					}
					err := call.Send(ctx)
					if call.Op == libclustertest.OpSurvey {
						surveys.Add(1)
					}
					return err
				})
				began := time.Now()
				b.member("x", c.mode, func(cfg *libcluster.Config) { cfg.Workers = 2 })
				took := time.Since(began)
				t.Logf("%d surveys in %v", surveys.Load(), took)
				require.EqualValues(t, c.gives, acknowledged.Load())
				require.LessOrEqual(t, surveys.Load(), int32(3))
				require.Less(t, took, 25*time.Millisecond, "for which acknowledgements gather")
			})
		})
	}
}
