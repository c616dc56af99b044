package peers

import (
	"context"
	"net/http"
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
	// moveAgain is how long a peer is not asked again that did not take the leadership. Each
	// failure doubles it.
	moveAgain     = time.Second
	moveAgainMost = 30 * time.Second
)

// moves has, by address, the peers that have not taken the leadership when they were asked last.
type moves map[string]refusal

type refusal struct {
	wait  time.Duration
	until time.Time
}

// candidate returns the first of the voters that the leadership may go to: one that is heard,
// stays, has no primary, and is not waited for.
func (m moves) candidate(voters []string, heard map[string]word, now time.Time) (string, bool) {
	for _, address := range voters {
		if w, ok := heard[address]; ok && !w.Primary && !w.Leaving && !now.Before(m[address].until) {
			return address, true
		}
	}
	return "", false
}

// failed has a peer waited for, twice as long as the last time.
func (m moves) failed(address string, now time.Time) {
	wait := min(max(moveAgain, 2*m[address].wait), moveAgainMost)
	m[address] = refusal{wait, now.Add(wait)}
}

// tend looks after a server that is ready, until ctx ends or the server does. work is the
// context of what it starts.
func (r *run) tend(ctx, work context.Context, s *server) error {
	every := time.NewTicker(tendEvery)
	defer every.Stop()
	asked := moves{}
	for {
		heard, changed := r.board.others()
		for _, address := range strangers(r.p.voters, r.cluster, heard) {
			if r.p.news(address + heard[address].Cluster) {
				r.log.Warn("a peer has data of another cluster, which is refused; if it is old, empty its data folder",
					zap.String("peer", address), zap.String("its", heard[address].Cluster), zap.String("own", r.cluster))
			}
		}
		if own, _ := r.board.says(); own.Primary {
			r.moveLeader(ctx, s, asked)
		}
		select {
		case <-every.C:
			var there []string
			for _, m := range s.etcd.Server.Cluster().Members() {
				there = append(there, addressOf(&pb.Member{PeerURLs: m.PeerURLs}))
			}
			r.followAll(work, there)
			r.forgetLeases(ctx, s)
			r.makeRoom(ctx, s)
		case <-changed:
		case <-s.etcd.Server.LeaderChangedNotify():
		case <-s.etcd.Server.StopNotify():
			return r.stopped()
		case <-r.broken:
			return r.stopped()
		case <-ctx.Done():
			r.board.say(func(w *word) { w.Leaving = true })
			r.moveLeader(context.WithoutCancel(ctx), s, moves{})
			return nil
		}
	}
}

// moveLeader gives the leadership away if this process has it and is primary, or its server is about to
// end. When the primary's process ends, the others then need not elect a leader before they can
// learn of it. A server that ends would be asked by etcd to give it to any other, and if that is the
// primary, which gives it away in turn, etcd would wait for several seconds. The leadership
// goes to a process that is primary of no cluster; if there is none, it stays.
//
// While etcd waits for the other server to take the leadership, it refuses all writes. So a
// peer is asked for a pong first: one that is stopped holds its connections, and does not answer.
func (r *run) moveLeader(ctx context.Context, s *server, m moves) {
	id := s.etcd.Server.MemberID()
	if s.etcd.Server.Leader() != id {
		return
	}
	var voters []string
	ids := map[string]uint64{}
	for _, m := range s.etcd.Server.Cluster().Members() {
		if m.IsLearner {
			continue
		}
		address := addressOf(&pb.Member{PeerURLs: m.PeerURLs})
		voters = append(voters, address)
		ids[address] = uint64(m.ID)
	}
	heard, _ := r.board.others()
	to, ok := m.candidate(voters, heard, time.Now())
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	err := r.ping(ctx, to)
	if err == nil {
		err = s.etcd.Server.MoveLeader(ctx, uint64(id), ids[to])
	}
	if err != nil {
		m.failed(to, time.Now())
		r.log.Debug("the leadership stays", zap.String("asked", to), zap.Error(err))
		return
	}
	delete(m, to)
}

// ping returns when a peer has answered.
func (r *run) ping(ctx context.Context, address string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.p.url(address)+pingPath, nil)
	if err != nil {
		return err
	}
	answer, err := r.http.RoundTrip(request)
	if err != nil {
		return err
	}
	return answer.Body.Close()
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

// makeRoom ends an alarm of this server's that its database has reached the quota, for which
// etcd refuses all writes, once compaction has emptied half of it.
func (r *run) makeRoom(ctx context.Context, s *server) {
	etcd := s.etcd.Server
	alarm := &pb.AlarmMember{MemberID: uint64(etcd.MemberID()), Alarm: pb.AlarmType_NOSPACE}
	raised := slices.ContainsFunc(etcd.Alarms(), func(a *pb.AlarmMember) bool {
		return a.MemberID == alarm.MemberID && a.Alarm == alarm.Alarm
	})
	if !raised || etcd.Backend().SizeInUse() > quota/2 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, grantTimeout)
	defer cancel()
	err := etcd.Defragment()
	if err == nil {
		_, err = etcd.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: alarm.MemberID, Alarm: alarm.Alarm})
	}
	r.log.Warn("the database had reached its quota, and was made smaller", zap.Int("quota", quota), zap.Error(err))
}
