package peers

import (
	"context"
	"errors"
	"fmt"
	"maps"
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

// beginning is how a server whose data folder is empty begins. One of the fields is set.
type beginning struct {
	enter []string // the peers whose cluster it enters
	form  lots     // by which it makes a new cluster, as all voters do
	why   string   // what it waits for
}

// choose decides how a server begins whose data folder is empty, by what the others say.
//
// A new cluster needs all peers. A peer that does not answer may have data: two of three that
// have lost theirs would otherwise make a second cluster, and count generations and fencing
// tokens anew, while an instance of the first may still act. The same goes for a peer that has
// data with which it has never served: it may be all that is left of what others have served.
//
// Peers decide one after the other, by what they have heard until then. So a peer that has not
// decided follows a peer that has, if its own lot is among the lots of that decision. If its lot is
// not, this peer has lost its folder since, and may have helped to make that cluster. That is also why
// no second cluster is made beside a cluster that was served: a peer of the majority that has lost its
// folder has no lot in what was decided before.
func choose(own string, voters []string, lot string, heard map[string]word) beginning {
	var silent, begun []string
	var unlike string
	formed := map[string][]string{} // by cluster
	all := lots{own: lot}           // of those that have not decided
	for _, address := range voters {
		w, ok := heard[address]
		switch {
		case address == own:
		case !ok:
			silent = append(silent, address)
		case w.Stage == etcdserver.Formed:
			formed[w.Cluster] = append(formed[w.Cluster], address)
		case !slices.Equal(w.Voters, voters) && unlike == "":
			unlike = fmt.Sprintf("the lists differ: here they are %s, and at %s they are %s; make the lists of all peers the same",
				strings.Join(voters, " "), address, strings.Join(w.Voters, " "))
		case w.Stage == etcdserver.Empty:
			all[address] = w.Lots[address]
		default:
			begun = append(begun, address)
		}
	}
	switch {
	case len(formed) > 0:
		return chooseCluster(formed)
	case unlike != "":
		return beginning{why: unlike}
	case len(silent) > 0:
		return beginning{why: fmt.Sprintf("waits for %s: with an empty data folder the first start needs all peers, since one that "+
			"does not answer may have the cluster's data; start it", strings.Join(silent, " and "))}
	case len(begun) == 0:
		return beginning{form: all}
	}
	if form := decided(own, voters, lot, begun, heard); form != nil {
		return beginning{form: form}
	}
	return beginning{why: fmt.Sprintf("waits for %s to be ready, whose data is of a cluster that this data folder has no part in: start the "+
		"peers that still have their folders. If these are lost for good, stop all and empty every data folder: the cluster "+
		"begins anew, and nothing that it held is kept", strings.Join(begun, " and "))}
}

// decided returns the lots by which those that have decided make a cluster, if this peer may
// follow them. Peers differ after one of them has lost its folder in between: then most count.
func decided(own string, voters []string, lot string, begun []string, heard map[string]word) (most lots) {
	support := map[string]int{}
	for _, address := range begun {
		form := heard[address].Lots
		if !form.of(voters) || form[own] != lot {
			continue
		}
		token := form.token()
		support[token]++
		if most == nil || support[token] > support[most.token()] {
			most = form
		}
	}
	return most
}

// chooseCluster decides which cluster to enter, of those that others have served.
func chooseCluster(formed map[string][]string) beginning {
	var most []string
	unsure := false
	for cluster, servers := range formed {
		switch {
		case cluster == "": // they have not opened their data yet
		case len(servers) > len(most):
			most, unsure = servers, false
		case len(servers) == len(most):
			unsure = true
		}
	}
	starting := formed[""]
	switch {
	case unsure:
		var all []string
		delete(formed, "")
		for _, cluster := range slices.Sorted(maps.Keys(formed)) {
			all = append(all, fmt.Sprintf("%s of cluster %s", strings.Join(formed[cluster], " and "), cluster))
		}
		return beginning{why: fmt.Sprintf("the others have data of different clusters: %s; stop those that have old data, and empty their data folders",
			strings.Join(all, ", "))}
	case most == nil:
		return beginning{why: fmt.Sprintf("waits until %s %s opened the data", strings.Join(starting, " and "), plural(len(starting), "has", "have"))}
	}
	return beginning{enter: most}
}

// elsewhere returns the peers that have served another cluster than that which this peer's data
// is of, if they are a majority of the voters: then its own cluster has none.
func elsewhere(voters []string, cluster string, heard map[string]word) (there []string) {
	if there = strangers(voters, cluster, heard); 2*len(there) > len(voters) {
		return there
	}
	return nil
}

// strangers returns the voters that have served another cluster.
func strangers(voters []string, cluster string, heard map[string]word) (there []string) {
	for _, address := range voters {
		w := heard[address]
		if w.Stage == etcdserver.Formed && w.Cluster != "" && cluster != "" && w.Cluster != cluster {
			there = append(there, address)
		}
	}
	return there
}

// begin decides how etcd starts on an empty folder, and tells the others before there is any
// data. It returns the addresses of all servers, and what a new cluster is named by; nil: the
// cluster is there already.
func (r *run) begin(ctx context.Context) (servers []string, named lots, err error) {
	own, voters, dir := r.p.self.Address, r.p.voters, r.p.cfg.DataDir
	said, _ := r.board.says()
	for {
		heard, changed := r.board.others()
		b := choose(own, voters, said.Lots[own], heard)
		var again <-chan time.Time
		switch {
		case b.form != nil:
			if err := b.form.keep(dir); err != nil {
				return nil, nil, fmt.Errorf("data folder: %w", err)
			}
			r.board.say(func(w *word) { w.Stage, w.Lots = etcdserver.Forming, b.form })
			return voters, b.form, nil
		case len(b.enter) > 0:
			servers, err := r.enter(ctx, b.enter)
			if err == nil {
				r.board.say(func(w *word) { w.Stage = etcdserver.Forming })
				return servers, nil, nil
			}
			b.why = err.Error()
			again = time.After(enterAgain)
		}
		r.waitsFor(b.why)
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
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
