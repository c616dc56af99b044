package operator

import (
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSignalsCountAsOneForTwoSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signals := make(chan os.Signal, 1)
		start := time.Now()
		var ended, restored time.Duration
		go func() {
			time.Sleep(time.Minute)
			signals <- syscall.SIGHUP
		}()
		obey(signals, func() { ended = time.Since(start) }, func() { restored = time.Since(start) })
		require.Equal(t, time.Minute, ended)
		require.Equal(t, time.Minute+2*time.Second, restored)
	})
}
