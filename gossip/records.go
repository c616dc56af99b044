package gossip

import (
	"encoding/json"
	"hash/fnv"
	"slices"
	"strconv"
	"time"

	"github.com/libcluster/libcluster"
)

const (
	// presumed is for how long a node is taken to be up that has not been heard of: its record
	// may come a moment before the news that it is there.
	presumed = 10 * time.Second
	// recordKept is for how long the record of a node is kept that is down, in case that the
	// node was only cut off.
	recordKept = time.Minute
	// addressKept is for how long a node that is down is looked for again.
	addressKept = 24 * time.Hour
)

// entry is the record of one node. Only the node itself writes another version. Any node may
// say that a version has gone, because it has found the node's port refused.
type entry struct {
	Node string `json:"node"`
	ID   string `json:"id"`
	// Since is when the membership began, in milliseconds since 1970 by the node's clock. Of
	// two nodes with one ID the later one has it.
	Since   int64  `json:"since"`
	Version uint64 `json:"version"`
	Gone    bool   `json:"gone,omitempty"`
	// Record is as libcluster.Member.Record writes it: JSON in each of its forms.
	Record json.RawMessage `json:"record,omitempty"`

	member libcluster.Member // what Record says
}

// rank orders what is known of one node: the highest is true.
func (e entry) rank() uint64 {
	if e.Gone {
		return 2*e.Version + 1
	}
	return 2 * e.Version
}

// hasIDBefore reports whether e keeps the ID that it shares with other.
func (e entry) hasIDBefore(other entry) bool {
	if e.Since != other.Since {
		return e.Since > other.Since
	}
	return e.Node > other.Node
}

// peer is what is known of a node's life.
type peer struct {
	address string    // HOST:PORT
	here    bool      // memberlist says that it is up
	up      bool      // and the port is its own
	over    bool      // it has left, or its process has ended: it never comes back
	changed time.Time // when up changed
}

// records are all that a node knows of all nodes, itself included: for each the latest
// record, and whether it is up. They do no I/O and know no clock. What comes twice, late, or
// in another order makes no difference to the records.
type records struct {
	own     string          // the name of the node itself
	entries map[string]held // by node
	peers   map[string]peer // by node
}

// held is an entry with what this node has noted of it.
type held struct {
	entry
	came  time.Time // the first entry of the node
	until time.Time // the record is kept until then, even if the node seems to be down
	asked uint64    // the number of the question that has said so
}

func newRecords(own string) records { return records{own, map[string]held{}, map[string]peer{}} }

// put takes in an entry, and reports whether it is news.
func (r *records) put(e entry, now time.Time) (news bool) {
	known, there := r.entries[e.Node]
	if there && known.rank() >= e.rank() {
		return false
	}
	if !there {
		known.came = now
	}
	known.entry = e
	r.entries[e.Node] = known
	return true
}

// hold keeps the record of a node that has just been heard of, for that long. A question that
// comes again says nothing: somebody on the way may have kept it.
func (r *records) hold(node string, asked uint64, until time.Time) {
	if known, there := r.entries[node]; there && known.asked < asked {
		known.until, known.asked = until, asked
		r.entries[node] = known
	}
}

// setUp notes that a node is up.
func (r *records) setUp(node, address string, now time.Time) {
	r.peers[node] = peer{address: address, here: true, changed: now}
	r.settle(address, now)
}

// setDown notes that a node is down.
func (r *records) setDown(node string, now time.Time) {
	if p := r.peers[node]; p.here {
		p.here = false
		r.peers[node] = p
		r.settle(p.address, now)
	}
}

// settle decides whose a port is, since it is one process's: this node's own, or else the later
// one's. Names say which is the later one, as news of them come in any order. Where a clock was set back
// they are wrong, until memberlist finds that the other one is down.
func (r *records) settle(address string, now time.Time) {
	latest := ""
	for name, p := range r.peers {
		if p.here && p.address == address {
			latest = max(latest, name)
		}
	}
	if own := r.peers[r.own]; own.here && own.address == address {
		latest = r.own
	}
	for name, p := range r.peers {
		if up := name == latest; p.address == address && p.up != up {
			p.up, p.over, p.changed = up, !up && r.entries[name].Gone, now
			r.peers[name] = p
		}
	}
}

// forget drops what has been of no use for long.
func (r *records) forget(now time.Time) {
	for name, e := range r.entries {
		p, there := r.peers[name]
		if !p.up && now.Sub(e.came) >= recordKept && (!there || now.Sub(p.changed) >= recordKept) && !now.Before(e.until) {
			delete(r.entries, name)
		}
	}
	for name, p := range r.peers {
		kept := addressKept
		if _, recorded := r.entries[name]; p.over && !recorded {
			kept = recordKept // each start of a process is another node, and they can be many in a day
		}
		if !p.up && now.Sub(p.changed) >= kept {
			delete(r.peers, name)
		}
	}
}

// counts reports whether a node's record counts, and until when if that is going to end by
// itself.
func (r *records) counts(e held, now time.Time) (yes bool, until time.Time) {
	p, there := r.peers[e.Node]
	if e.Gone || p.up {
		return !e.Gone, time.Time{}
	}
	until = e.until
	if end := e.came.Add(presumed); !there && until.Before(end) {
		until = end
	}
	return now.Before(until), until
}

// members returns the entry of each ID that has one, and when to look again if nothing
// happens before; zero: never.
func (r *records) members(now time.Time) (members map[string]entry, again time.Time) {
	members = map[string]entry{}
	for _, e := range r.entries {
		yes, until := r.counts(e, now)
		if !yes {
			continue
		}
		if !until.IsZero() && (again.IsZero() || until.Before(again)) {
			again = until
		}
		if other, taken := members[e.ID]; !taken || e.hasIDBefore(other) {
			members[e.ID] = e.entry
		}
	}
	return members, again
}

// holder returns the entry that has an ID.
func (r *records) holder(id string, now time.Time) (best entry, there bool) {
	for _, e := range r.entries {
		if yes, _ := r.counts(e, now); yes && e.ID == id && (!there || e.hasIDBefore(best)) {
			best, there = e.entry, true
		}
	}
	return best, there
}

// digest returns the rank of each record of a node that is up. Nodes that have one digest
// know the same.
func (r *records) digest() map[string]uint64 {
	ranks := map[string]uint64{}
	for name, e := range r.entries {
		if r.peers[name].up {
			ranks[name] = e.rank()
		}
	}
	return ranks
}

// sum is one number for a digest.
func sum(digest map[string]uint64) (sum uint64) {
	for name, rank := range digest {
		h := fnv.New64a()
		_, _ = h.Write(strconv.AppendUint(append([]byte(name), ' '), rank, 10))
		sum ^= h.Sum64()
	}
	return sum
}

// newer returns the entries of nodes that are up and that a digest lacks, or has older. A
// node that is down is never told of, so all come to forget it.
func (r *records) newer(digest map[string]uint64) (entries []entry) {
	for name, e := range r.entries {
		if rank, knows := digest[name]; r.peers[name].up && (!knows || rank < e.rank()) {
			entries = append(entries, e.entry)
		}
	}
	return entries
}

// up returns the names of the nodes that are up, sorted.
func (r *records) up() (names []string) {
	for name, p := range r.peers {
		if p.up {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// addresses returns those of the nodes that are up, and of those that are down and may come back.
func (r *records) addresses() (up, down []string) {
	for _, p := range r.peers {
		switch {
		case p.up:
			up = append(up, p.address)
		case !p.over:
			down = append(down, p.address)
		}
	}
	return up, down
}
