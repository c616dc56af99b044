//go:build faults && linux

package testnet_test

import (
	"fmt"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/internal/testetcd"
	"github.com/libcluster/libcluster/internal/testnet"
)

func TestOneNetworkAtATimeHasALineToTheMachine(t *testing.T) {
	second, joined := testnet.New(t, 1), make(chan struct{})
	t.Run("the first one", func(t *testing.T) {
		testnet.New(t, 1).Join()
		go func() {
			defer close(joined)
			second.Join()
		}()
		waits := regexp.MustCompile(fmt.Sprintf(`-> FLOCK .* %d `, os.Getpid()))
		require.Eventually(t, func() bool {
			select {
			case <-joined:
				t.Error("there are two")
				return true
			default:
			}
			locks, err := os.ReadFile("/proc/locks")
			return err == nil && waits.Match(locks)
		}, testetcd.Patience, time.Millisecond)
	})
	<-joined
}
