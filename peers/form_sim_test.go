package peers

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/libcluster/libcluster/internal/etcdserver"
)

// simPeer is a peer whose server has no etcd, but a folder, and a process if it is up.
type simPeer struct {
	// folder; gone when it is lost
	stage   etcdserver.Stage
	kept    lots
	cluster string // of the data
	shares  bool   // the data has what others have served

	// process
	up    bool
	says  word
	heard map[string]word // what it has heard last, however long ago that was said
	found string          // Cluster, since it was opened
}

// simulation is what may happen to peers that form a cluster, in any order.
type simulation struct {
	t      *rapid.T
	voters []string
	peers  map[string]*simPeer
	began  map[string]bool // address and cluster, when a peer has made a cluster on an empty folder
	served map[string]bool // clusters
	log    []string
}

func newSimulation(t *rapid.T, n int) *simulation {
	s := &simulation{t: t, peers: map[string]*simPeer{}, began: map[string]bool{}, served: map[string]bool{}}
	for i := range n {
		address := string(rune('a' + i))
		s.voters = append(s.voters, address)
		s.peers[address] = &simPeer{stage: etcdserver.Empty}
	}
	return s
}

func (s *simulation) tell(format string, a ...any) { s.log = append(s.log, fmt.Sprintf(format, a...)) }

func (s *simulation) fail(why string) {
	s.t.Fatalf("%s, after\n%s", why, strings.Join(s.log, "\n"))
}

// open is what a process does with its folder, when it starts and when the others are elsewhere.
func (s *simulation) open(own string) {
	p := s.peers[own]
	if p.stage == etcdserver.Forming && elsewhere(s.voters, p.found, p.heard) != nil {
		s.tell("%s gives its data up", own)
		if p.shares {
			s.fail("data that was served is given up")
		}
		p.stage, p.kept, p.cluster, p.shares, p.found = etcdserver.Empty, nil, "", false, ""
	}
	if p.stage == etcdserver.Empty {
		p.kept = p.kept.drawn(own)
	}
	p.says = word{Voters: s.voters, Stage: p.stage, Lots: maps.Clone(p.kept)}
	if p.stage == etcdserver.Empty {
		return
	}
	p.found = p.cluster
	p.says.Cluster = p.cluster
	if p.stage == etcdserver.Formed {
		p.says.Lots = nil
	}
}

func (s *simulation) start(own string) {
	p := s.peers[own]
	if p.up {
		return
	}
	p.up, p.heard, p.found = true, map[string]word{}, ""
	s.open(own)
	s.tell("%s starts: %s %v %s", own, p.stage, p.kept, p.cluster)
}

func (s *simulation) kill(own string) {
	s.peers[own].up = false
	s.tell("%s ends", own)
}

func (s *simulation) lose(own string) {
	if !s.peers[own].up {
		s.peers[own] = &simPeer{stage: etcdserver.Empty}
		s.tell("%s has lost its folder", own)
	}
}

// hear has one hear another: what it says now, or that nothing is there.
func (s *simulation) hear(own, other string) {
	p, q := s.peers[own], s.peers[other]
	if !p.up || own == other {
		return
	}
	if q.up {
		p.heard[other] = q.says
	} else {
		delete(p.heard, other)
	}
}

func (s *simulation) hearAll(own string) {
	for _, other := range s.voters {
		s.hear(own, other)
	}
}

// begin has a peer without data decide, and tell so.
func (s *simulation) begin(own string) {
	p := s.peers[own]
	if !p.up || p.says.Stage != etcdserver.Empty {
		return
	}
	b := choose(own, s.voters, p.says.Lots[own], p.heard)
	switch {
	case b.form != nil:
		p.kept = b.form
		p.says.Stage, p.says.Lots = etcdserver.Forming, b.form
		s.tell("%s decides %v", own, b.form)
	case len(b.enter) > 0:
		cluster := p.heard[b.enter[0]].Cluster
		if s.quorum(cluster) {
			p.says.Stage, p.says.Cluster = etcdserver.Forming, cluster
			s.tell("%s enters %s", own, cluster)
		}
	}
}

// write has a peer that has decided write its first data.
func (s *simulation) write(own string) {
	p := s.peers[own]
	if !p.up || p.says.Stage != etcdserver.Forming || p.stage != etcdserver.Empty {
		return
	}
	if p.cluster = p.says.Cluster; p.cluster == "" {
		p.cluster = p.says.Lots.token()
		if s.began[own+p.cluster] {
			s.fail(own + " makes the same cluster twice")
		}
		s.began[own+p.cluster] = true
	}
	p.stage, p.says.Cluster, p.found = etcdserver.Forming, p.cluster, p.cluster
	s.tell("%s has data of %s", own, p.cluster)
}

// with returns the peers that are up with data of a cluster.
func (s *simulation) with(cluster string) (all []*simPeer) {
	for _, p := range s.peers {
		if p.up && p.stage != etcdserver.Empty && p.cluster == cluster {
			all = append(all, p)
		}
	}
	return all
}

func (s *simulation) quorum(cluster string) bool { return 2*len(s.with(cluster)) > len(s.voters) }

// serve has a peer serve whose cluster has a majority, or be told that the others are elsewhere.
func (s *simulation) serve(own string) {
	p := s.peers[own]
	switch {
	case !p.up || p.stage == etcdserver.Empty:
	case elsewhere(s.voters, p.found, p.heard) != nil:
		s.open(own)
	case s.quorum(p.cluster):
		if !s.served[p.cluster] {
			s.served[p.cluster] = true
			for _, q := range s.peers {
				if q.shares && q.cluster != p.cluster {
					s.fail("a second cluster is made while there is data of the first")
				}
			}
		}
		for _, q := range s.with(p.cluster) {
			q.shares = true
		}
		p.stage, p.kept = etcdserver.Formed, nil
		p.says.Stage, p.says.Lots = etcdserver.Formed, nil
		s.tell("%s serves %s", own, p.cluster)
	}
}

// settle has everything happen that can, without faults.
func (s *simulation) settle() {
	for range 4 * len(s.voters) {
		for _, own := range s.voters {
			s.start(own)
			s.hearAll(own)
			s.begin(own)
			s.write(own)
			s.serve(own)
		}
	}
}

// headless reports whether a cluster that was served has lost its majority for good: before all
// had its data, the loss of one folder can be enough for that.
func (s *simulation) headless() bool {
	for cluster := range s.served {
		have := 0
		for _, p := range s.peers {
			if p.stage != etcdserver.Empty && p.cluster == cluster {
				have++
			}
		}
		if 2*have <= len(s.voters) {
			return true
		}
	}
	return false
}

// formed reports whether all serve one cluster.
func (s *simulation) formed() bool {
	cluster := s.peers[s.voters[0]].cluster
	for _, p := range s.peers {
		if p.stage != etcdserver.Formed || p.cluster != cluster {
			return false
		}
	}
	return true
}

// Whatever is lost, killed and late: no peer makes the same cluster twice, no second cluster is made
// while there is data that the first has served, none of which is given up. In the end there is a
// cluster, which is one, if no more than one folder of three or more was lost, and not one of the only
// two that had its data. More losses than that while a cluster is made may need somebody's hand.
func TestPeersFormOneCluster(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSimulation(t, rapid.SampledFrom([]int{1, 2, 3, 3, 3, 5}).Draw(t, "peers"))
		losses := rapid.SampledFrom([]int{0, 1, 1, 2, 100}).Draw(t, "losses")
		lost := 0
		if rapid.Bool().Draw(t, "all are there") {
			for _, own := range s.voters {
				s.start(own)
			}
			for _, own := range s.voters {
				s.hearAll(own)
			}
		}
		for range rapid.SampledFrom([]int{0, 0, 1, 2, 3}).Draw(t, "rounds before") {
			for _, own := range s.voters {
				s.start(own)
				s.hearAll(own)
				s.begin(own)
				s.write(own)
			}
		}
		what := []string{"start", "hear", "hear", "hear all", "begin", "write", "serve", "kill", "lose", "come back without it"}
		lose := func(own string) {
			if lost < losses && !s.peers[own].up {
				lost++
				s.lose(own)
			}
		}
		for range rapid.IntRange(0, 100).Draw(t, "steps") {
			own := rapid.SampledFrom(s.voters).Draw(t, "own")
			switch rapid.SampledFrom(what).Draw(t, "what") {
			case "start":
				s.start(own)
			case "hear":
				s.hear(own, rapid.SampledFrom(s.voters).Draw(t, "other"))
			case "hear all":
				s.hearAll(own)
			case "begin":
				s.begin(own)
			case "write":
				s.write(own)
			case "serve":
				s.serve(own)
			case "kill":
				s.kill(own)
			case "lose":
				lose(own)
			case "come back without it":
				s.kill(own)
				lose(own)
				s.start(own)
				s.hearAll(own)
			}
		}
		hopeless := lost > 1 || 2*lost >= len(s.voters) || s.headless()
		s.settle()
		if !hopeless && !s.formed() {
			s.fail("no cluster in the end")
		}
		if lost == 0 {
			clusters := map[string]bool{}
			for _, p := range s.peers {
				clusters[p.cluster] = true
			}
			require.Len(t, slices.Collect(maps.Keys(clusters)), 1)
		}
	})
}
