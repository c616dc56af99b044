package libcluster_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

// Many instances find that all have stopped, and each would write the empty plan. When one has
// written it, the others wait for nothing more.
func TestManyThatLeaveAtOnceDoNotWaitForOneAnother(t *testing.T) {
	const all, trip = 100, 5 * time.Millisecond
	for _, m := range []libcluster.Mode{libcluster.ModeExclusive, libcluster.ModeCooperative} {
		t.Run(m.String(), func(t *testing.T) {
			inMemory(t, func(w *memory) {
				var apps []*application
				for n := range all {
					apps = append(apps, w.join(fmt.Sprintf("node%02d", n), mode(m)))
				}
				wait(time.Minute)
				w.Intercept(func(ctx context.Context, call libclustertest.Call) error {
					libcluster.Sleep(ctx, trip)
					return call.Send(ctx)
				})
				began := time.Now()
				var leaving sync.WaitGroup
				for _, a := range apps {
					leaving.Go(func() {
						if err := a.Leave(w.Context()); err != nil {
							t.Error(err)
						}
					})
				}
				leaving.Wait()
				took := time.Since(began)
				require.Empty(w, w.Members(cluster))
				require.LessOrEqual(w, took, 20*trip)
				began = time.Now()
				w.join("next", mode(m))
				require.LessOrEqual(w, time.Since(began), 20*trip, "it waits for nobody: the last plan is empty")
			})
		})
	}
}
