package peers

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster/internal/hostport"
)

const (
	// connectAgain is how soon a peer is dialled again.
	connectAgain = 100 * time.Millisecond
	dialTimeout  = time.Second
	// refusedAgain is between the two dials that must be refused. A process that ends does not
	// close all its sockets at once, so some dials before may be accepted.
	refusedAgain = 10 * time.Millisecond
	mostDials    = 10

	// peerHeader names the peer that asks what this one says.
	peerHeader = "Libcluster-Peer"

	// A request to a leader that has ended is lost, and answered by nobody.
	revokeTimeout = 100 * time.Millisecond
	revokeAgain   = 10 * time.Millisecond
)

// follow holds a connection to a peer and hears what it says, until ctx ends. When the
// process at the other end has ended, the leases that it had are revoked.
//
// No proof needs a lease's end to come late. Exclusive mode waits for the deadline of an
// instance whose record has gone, from the moment at which the record is seen to have gone,
// however that came about; and an instance whose lease was revoked by mistake finds at its
// next heartbeat that its record has gone, and is fenced; or, without a server, at its deadline.
// So a mistake costs a rejoin, and in direct and planned mode two may act until then.
func (r *run) follow(ctx context.Context, address string) {
	var last *word // of the process that was heard last, if its leases may live
	calls := r.board.callsOf(address)
	for ctx.Err() == nil {
		_ = r.listen(ctx, address, func(w word) { // an error says that the connection has ended
			if last != nil && last.Process != w.Process && !r.p.cfg.Patient {
				r.revoke(ctx, address, *last)
			}
			last = &w
			r.board.hear(address, &w)
		})
		r.board.hear(address, nil)
		if last != nil && !r.p.cfg.Patient && refused(ctx, address) {
			r.revoke(ctx, address, *last)
			last = nil
		}
		select {
		case <-calls:
		case <-time.After(connectAgain):
		case <-ctx.Done():
		}
	}
}

// listen calls hear with each thing that the peer says, until the connection ends.
func (r *run) listen(ctx context.Context, address string, hear func(word)) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.p.url(address)+wordPath, nil)
	if err != nil {
		return err
	}
	request.Header.Set(peerHeader, r.p.self.Address)
	answer, err := r.http.RoundTrip(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	in := json.NewDecoder(answer.Body)
	for {
		var w word
		if err := in.Decode(&w); err != nil {
			return err
		}
		hear(w)
	}
}

// refused reports whether two dials in a row are refused. While a server lives, the kernel
// accepts connections to its port, also when its process is stopped or busy. A process whose
// server has ended, and not the application, refuses too: that is a mistake of the kind above.
func refused(ctx context.Context, address string) bool {
	dialer := net.Dialer{Timeout: dialTimeout}
	before := false
	for range mostDials {
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		now := hostport.IsRefused(err)
		switch {
		case now && before:
			return true
		case errors.Is(err, context.DeadlineExceeded), ctx.Err() != nil:
			return false
		}
		before = now
		sleep(ctx, refusedAgain)
	}
	return false
}

// revoke has the leases of a process revoked that has ended.
func (r *run) revoke(ctx context.Context, address string, last word) {
	select {
	case <-r.ready:
	default:
		return // leases that old have no need of this server
	}
	r.log.Info("a peer's process has ended", zap.String("peer", address), zap.Int("leases", len(last.Leases)))
	for _, id := range last.Leases {
		r.work.Go(func() { revokeLease(ctx, r.client, clientv3.LeaseID(id)) })
	}
}

// revokeLease asks until there is an answer.
func revokeLease(ctx context.Context, client *clientv3.Client, id clientv3.LeaseID) {
	for ctx.Err() == nil {
		attempt, cancel := context.WithTimeout(ctx, revokeTimeout)
		_, err := client.Revoke(attempt, id)
		cancel()
		if err == nil || rpctypes.Error(err) == rpctypes.ErrLeaseNotFound {
			return
		}
		sleep(ctx, revokeAgain)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
