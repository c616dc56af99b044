package peers

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A peer whose process is another one than before had leases that nobody renews any more.
func TestLeasesOfAProcessThatIsBackAreRevokedUnlessPeersArePatient(t *testing.T) {
	for when, patient := range map[string]bool{"impatient": false, "patient": true} {
		t.Run(when, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			r := serving(t, ctx) // it follows nobody by itself
			r.p.cfg.Patient = patient
			lease, err := r.client.Grant(ctx, 3600)
			require.NoError(t, err)

			var calls atomic.Int32
			peer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
				if calls.Add(1) == 1 {
					_ = json.NewEncoder(w).Encode(word{Process: "before", Leases: []int64{int64(lease.ID)}})
					return
				}
				_ = json.NewEncoder(w).Encode(word{Process: "after"})
				_ = http.NewResponseController(w).Flush()
				<-request.Context().Done()
			}))
			defer peer.Close()
			address := peer.Listener.Addr().String()
			following, stop := context.WithCancel(ctx)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				r.follow(following, address)
			}()
			defer func() { stop(); <-ended }()
			for {
				heard, changed := r.board.others()
				if heard[address].Process == "after" {
					break
				}
				select {
				case <-changed:
				case <-ctx.Done():
					require.Fail(t, "the process that is back is not heard")
				}
			}
			r.work.Wait() // for what it has begun to revoke
			left, err := r.client.TimeToLive(ctx, clientv3.LeaseID(lease.ID))
			require.NoError(t, err)
			require.Equal(t, patient, left.TTL > 0, "the lease lives for %d s", left.TTL)
		})
	}
}
