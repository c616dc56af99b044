package libclustertest_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

// mailer is the application under test. It sends mail while it has a place, and
// pauses while it has none.
type mailer struct{ sending atomic.Bool }

func (m *mailer) onRebalance(s libcluster.State) { m.sending.Store(s.Active()) }

// mailerPausesWhileCutOff is a test of yours; go test knows it as
// TestMailerPausesWhileCutOff.
func mailerPausesWhileCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := libclustertest.New()
		m := &mailer{}
		c, err := libcluster.New(libcluster.Config{
			Key:         "mailer",
			ID:          "a",
			Registry:    registry,
			OnRebalance: m.onRebalance,
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Join(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer c.Leave(context.Background())
		if !m.sending.Load() {
			t.Error("does not send although it has joined")
		}

		registry.Cut("a")
		time.Sleep(libcluster.DefaultTTL) // takes no time in here
		synctest.Wait()
		if m.sending.Load() {
			t.Error("sends while others may do its work")
		}
		if registry.Holds("mailer/production", "a") {
			t.Error("nobody renews the record, and yet it is there")
		}

		registry.Heal("a")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !m.sending.Load() {
			t.Error("does not send although it is back")
		}
	})
}

// A test of an application that pauses while it is cut off from the registry: an
// outage of ten seconds, tested in less than a millisecond.
func Example() {
	var t *testing.T // what go test gives your test
	mailerPausesWhileCutOff(t)
}
