package peers

import (
	"context"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	stirEvery = time.Second
	// longestLag is how many entries etcd lets a server lag behind that wants to write.
	longestLag = 5000
)

// stir has another server write if this one needs that, until ctx ends.
//
// A server whose log ends before that of the leader begins is sent a snapshot. Etcd then goes on counting
// as applied what was applied before, until there is one more entry; and it lets a server that seems to
// lag so far behind write nothing, so that its instances could not join. At rest nobody else writes.
func (r *run) stir(ctx context.Context, s *server) {
	every := time.NewTicker(stirEvery)
	defer every.Stop()
	for before := uint64(0); ; {
		select {
		case <-every.C:
		case <-ctx.Done():
			return
		}
		applied := s.etcd.Server.AppliedIndex()
		if applied == before && s.etcd.Server.CommittedIndex() > applied+longestLag {
			r.haveWritten(ctx)
		}
		before = applied
	}
}

// haveWritten has one of the others write what changes nothing: that a lease ends which there is not.
func (r *run) haveWritten(ctx context.Context) {
	others := slices.DeleteFunc(slices.Clone(r.p.voters), func(address string) bool { return address == r.p.self.Address })
	client, err := r.p.dial(others)
	if err != nil {
		return // never: the addresses were checked
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	_, err = client.Revoke(ctx, clientv3.NoLease)
	r.log.Debug("the server was sent a snapshot, and has another one write", zap.Error(err))
}
