package peers

import (
	"context"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"
)

const (
	tendEvery = time.Second
	// grantTimeout is longer than a lease takes to be granted.
	grantTimeout = 30 * time.Second
	moveTimeout  = time.Second
)

// tend looks after a server that is ready, until ctx ends or the server does. work is the
// context of what it starts.
func (r *run) tend(ctx, work context.Context, s *server) error {
	every := time.NewTicker(tendEvery)
	defer every.Stop()
	for {
		_, changed := r.board.others()
		r.moveLeader(ctx, s)
		select {
		case <-every.C:
			var there []string
			for _, m := range s.etcd.Server.Cluster().Members() {
				there = append(there, addressOf(&pb.Member{PeerURLs: m.PeerURLs}))
			}
			r.followAll(work, there)
			r.forgetLeases(ctx, s)
		case <-changed:
		case <-s.etcd.Server.LeaderChangedNotify():
		case <-s.etcd.Server.StopNotify():
			return r.stopped()
		case <-r.broken:
			return r.stopped()
		case <-ctx.Done():
			return nil
		}
	}
}

// moveLeader gives the leadership away if this process is primary: when the primary's process
// ends, the others then need not elect a leader before they can learn of it. The leadership
// goes to a process that is primary of no cluster; if there is none, it stays.
func (r *run) moveLeader(ctx context.Context, s *server) {
	own, _ := r.board.says()
	id := s.etcd.Server.MemberID()
	if !own.Primary || s.etcd.Server.Leader() != id {
		return
	}
	heard, _ := r.board.others()
	for _, m := range s.etcd.Server.Cluster().Members() {
		address := addressOf(&pb.Member{PeerURLs: m.PeerURLs})
		if w, ok := heard[address]; !ok || w.Primary || m.IsLearner {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, moveTimeout)
		defer cancel()
		if err := s.etcd.Server.MoveLeader(ctx, uint64(id), uint64(m.ID)); err != nil {
			r.log.Debug("the leadership stays with the primary", zap.String("asked", address), zap.Error(err))
		}
		return
	}
}

// forgetLeases forgets those that have ended by themselves.
func (r *run) forgetLeases(ctx context.Context, s *server) {
	leases, err := s.etcd.Server.LeaseLeases(ctx, &pb.LeaseLeasesRequest{})
	if err != nil {
		return // there is no leader; later
	}
	r.board.keep(func(id int64) bool {
		return slices.ContainsFunc(leases.Leases, func(l *pb.LeaseStatus) bool { return l.ID == id })
	}, grantTimeout)
}
