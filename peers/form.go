package peers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster/internal/etcdserver"
)

const (
	enterTimeout = 5 * time.Second
	enterAgain   = 200 * time.Millisecond
	promoteAgain = 50 * time.Millisecond
)

// choose decides how a server whose data folder is empty begins. heard is what the others
// say. If formed is not empty, the server enters the cluster that these peers have. If it is
// empty and why is too, all make a new cluster. Otherwise it waits, and why says for what.
//
// A new cluster needs all peers. A peer that does not answer may have data: two of three that
// have lost theirs would otherwise make a second cluster of the same peers, and count
// generations and fencing tokens anew, while an instance of the first may still act.
func choose(own string, voters []string, heard map[string]word) (formed []string, why string) {
	var silent []string
	for _, address := range voters {
		if address == own {
			continue
		}
		w, ok := heard[address]
		switch {
		case !ok:
			silent = append(silent, address)
		case w.Stage == etcdserver.Formed:
			formed = append(formed, address)
		case !slices.Equal(w.Voters, voters) && why == "":
			why = fmt.Sprintf("the lists differ: here they are %s, and at %s they are %s; make the lists of all peers the same",
				strings.Join(voters, " "), address, strings.Join(w.Voters, " "))
		}
	}
	switch {
	case len(formed) > 0:
		return formed, ""
	case why == "" && len(silent) > 0:
		why = fmt.Sprintf("waits for %s: with an empty data folder the first start needs all peers, since one that "+
			"does not answer may have the cluster's data; start it", strings.Join(silent, " and "))
	}
	return nil, why
}

// begin returns the servers by which etcd starts on an empty folder, and whether their
// cluster is there already.
func (r *run) begin(ctx context.Context) (servers []string, existing bool, err error) {
	own, voters := r.p.self.Address, r.p.voters
	for {
		heard, changed := r.board.others()
		formed, why := choose(own, voters, heard)
		var again <-chan time.Time
		switch {
		case len(formed) > 0:
			servers, err := r.enter(ctx, formed)
			if err == nil {
				return servers, true, nil
			}
			why = err.Error()
			again = time.After(enterAgain)
		case why == "":
			return voters, false, nil
		}
		r.waitsFor(why)
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		}
	}
}

// enter makes this peer a learner of the cluster that others have, in the place of what the
// cluster still knows of it: its data is gone. It returns the addresses of all servers.
func (r *run) enter(ctx context.Context, formed []string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, enterTimeout)
	defer cancel()
	client, err := r.p.dial(formed)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	members, err := client.MemberList(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: the data folder is empty, and %s, with the cluster's data, %s no majority (%w): "+
			"start the others that still have their folders. If these are lost for good, stop all and empty "+
			"every data folder: the cluster begins anew, and nothing that it held is kept",
			r.p.self.Address, strings.Join(formed, " and "), plural(len(formed), "has", "have"), err)
	}
	var own uint64
	for _, m := range members.Members {
		address := addressOf(m)
		if address == r.p.self.Address {
			own = m.ID
		} else if !slices.Contains(r.p.voters, address) {
			return nil, fmt.Errorf("the cluster has a peer at %s, which this list lacks; add it, or have it removed (libcluster peers remove)", address)
		}
	}
	if own != 0 {
		r.log.Warn("the data folder is empty; the server enters the cluster anew", zap.String("folder", r.p.cfg.DataDir))
		if err := removeMember(ctx, client, own); err != nil {
			return nil, fmt.Errorf("remove what the cluster knows of this peer: %w", err)
		}
	}
	added, err := client.MemberAddAsLearner(ctx, []string{r.p.url(r.p.self.Address)})
	if err != nil {
		return nil, fmt.Errorf("enter the cluster: %w", err)
	}
	var servers []string // of the answer: another peer may have entered since the list
	for _, m := range added.Members {
		servers = append(servers, addressOf(m))
	}
	return servers, nil
}

// promote makes a voter of this server, once it has all data. It ends when the server does.
func (r *run) promote(ctx context.Context, id uint64, others []string, ended <-chan struct{}) error {
	client, err := r.p.dial(others)
	if err != nil {
		return err
	}
	defer client.Close()
	for {
		attempt, cancel := context.WithTimeout(ctx, enterTimeout)
		_, err := client.MemberPromote(attempt, id)
		cancel()
		if err == nil || errors.Is(rpctypes.Error(err), rpctypes.ErrMemberNotLearner) {
			return nil
		}
		if errors.Is(rpctypes.Error(err), rpctypes.ErrMemberNotFound) {
			return r.stopped()
		}
		r.waitsFor(fmt.Sprintf("becomes a voter: %v", err))
		select {
		case <-time.After(promoteAgain):
		case <-ended:
			return r.stopped()
		case <-r.broken:
			return r.stopped()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// addressOf returns HOST:PORT of a server.
func addressOf(m *pb.Member) string {
	for _, u := range m.PeerURLs {
		if _, address, ok := strings.Cut(u, "://"); ok {
			return address
		}
	}
	return ""
}

func plural(n int, one, more string) string {
	if n == 1 {
		return one
	}
	return more
}
