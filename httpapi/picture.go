package httpapi

import (
	"errors"
	"iter"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/libcluster/libcluster"
)

// The JSON of this package. Its field names stay; schema.json describes them.

// state is this instance's.
type state struct {
	Cluster    string           `json:"cluster"`
	Instance   string           `json:"instance"`
	Mode       libcluster.Mode  `json:"mode"`
	Phase      libcluster.Phase `json:"phase"`
	Index      int              `json:"index"`
	Workers    int              `json:"workers"`
	Total      int              `json:"total"`
	Partitions string           `json:"partitions,omitempty"`
	Generation int64            `json:"generation"`
	Primary    bool             `json:"primary"`
	Deadline   time.Time        `json:"deadline,omitzero"`
	Why        string           `json:"why,omitempty"`
}

// member is a member with what it holds.
type member struct {
	ID         string            `json:"id"`
	Index      int               `json:"index"`
	Workers    int               `json:"workers"`
	Partitions string            `json:"partitions,omitempty"`
	Address    string            `json:"address,omitempty"`
	Version    string            `json:"version,omitempty"`
	Metadata   map[string]string `json:"metadata,omitempty"`
	Primary    bool              `json:"primary,omitempty"`
	Self       bool              `json:"self,omitempty"`
	Color      *int              `json:"color,omitempty"` // of the page; see colors

	holds []span
}

// span is indexes, or partitions: [from, to).
type span struct{ from, to int }

// blocker is an instance that the cluster waits for.
type blocker struct {
	ID         string    `json:"id"`
	Since      time.Time `json:"since,omitzero"`
	Partitions []int     `json:"partitions,omitempty"`
}

// picture is the cluster at one instant, as this instance sees it.
type picture struct {
	State    state     `json:"state"`
	Members  []member  `json:"members"`
	Blockers []blocker `json:"blockers"`
}

// stateOf returns the state of a cluster as of now.
func stateOf(c *libcluster.Cluster, s libcluster.State) state {
	now := state{
		Cluster:  strings.TrimPrefix(c.String(), "instance "+c.ID()+" of cluster "),
		Instance: c.ID(), Mode: c.Mode(), Phase: c.Phase(),
		Index: s.Index, Workers: s.Workers, Total: s.Total, Generation: s.Generation,
		Partitions: libcluster.PartitionRanges(numbers(s)),
		Primary:    s.Primary(), Deadline: s.Deadline,
	}
	if err := c.Err(); err != nil {
		now.Why = reason(err)
	}
	return now
}

// reason is an error's text without the name of the library, which is clear here.
func reason(err error) string { return strings.TrimPrefix(err.Error(), "libcluster: ") }

func numbers(s libcluster.State) iter.Seq[int] {
	return func(yield func(int) bool) {
		for p := range s.Held() {
			if !yield(p.Number) {
				return
			}
		}
	}
}

// memberOf returns a member as it is shown, with all that it publishes.
func memberOf(c *libcluster.Cluster, p libcluster.Assignment) member {
	m := member{
		ID: p.ID, Index: p.Index, Workers: p.Workers, Address: p.Address, Version: p.Version, Metadata: p.Metadata,
		Primary: p.Holds(0), Self: p.ID == c.ID(),
	}
	if c.Mode() != libcluster.ModeCooperative {
		m.holds = []span{{p.Index, p.Index + p.Workers}}
		return m
	}
	m.Partitions = libcluster.PartitionRanges(p.Partitions())
	for n := range p.Partitions() {
		if last := len(m.holds) - 1; last >= 0 && m.holds[last].to == n {
			m.holds[last].to++
		} else {
			m.holds = append(m.holds, span{n, n + 1})
		}
	}
	return m
}

func blockersOf(all []libcluster.Blocker) []blocker {
	blockers := make([]blocker, 0, len(all))
	for _, b := range all {
		blockers = append(blockers, blocker{b.ID, b.Since, b.Partitions})
	}
	return blockers
}

// longest is how many bytes of an address or a version a picture has. A picture is made and
// kept at each change, and members may publish 64 KiB each.
const longest = 128

// pictureOf returns what can be seen now. It has no metadata and no deadline, since what
// moves all the time is no change.
func pictureOf(c *libcluster.Cluster) picture {
	v := c.View()
	p := picture{State: stateOf(c, v.State), Members: make([]member, 0, len(v.Members)), Blockers: blockersOf(v.Blockers)}
	p.State.Deadline = time.Time{}
	for _, place := range v.Members {
		m := memberOf(c, place)
		m.Metadata, m.Address, m.Version = nil, cut(m.Address), cut(m.Version)
		p.Members = append(p.Members, m)
	}
	return p
}

// cut shortens a text, and says so.
func cut(text string) string {
	if len(text) <= longest {
		return text
	}
	end := longest
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return strings.Clone(text[:end]) + "…"
}

// width is how many indexes there are to be drawn. It is more than the total while this
// instance is in the list and does not count.
func (p picture) width() int {
	width := p.State.Total
	for _, m := range p.Members {
		if n := len(m.holds); n > 0 {
			width = max(width, m.holds[n-1].to)
		}
	}
	return width
}

// coverage is what a look at the registry has found.
type coverage struct {
	Mode       libcluster.Mode `json:"mode"`
	Generation int64           `json:"generation"`
	Total      int             `json:"total"`
	Covered    bool            `json:"covered"`
	Since      time.Time       `json:"since,omitzero"`
	Members    []member        `json:"members"`
	Problems   []problem       `json:"problems"`
	Blockers   []blocker       `json:"blockers"`
}

type problem struct {
	Kind libcluster.ProblemKind `json:"kind"`
	From int                    `json:"from"`
	To   int                    `json:"to"`
	ID   string                 `json:"id,omitempty"`
	Text string                 `json:"text"`
}

func coverageOf(c *libcluster.Cluster, found libcluster.Coverage) coverage {
	now := coverage{
		Mode: found.Mode, Generation: found.Generation, Total: found.Total, Covered: found.Covered, Since: found.Since,
		Members: make([]member, 0, len(found.Assignments)), Problems: make([]problem, 0, len(found.Problems)),
		Blockers: blockersOf(found.Blockers),
	}
	for _, p := range found.Assignments {
		m := memberOf(c, p)
		m.Metadata, m.Address, m.Version = nil, cut(m.Address), cut(m.Version)
		now.Members = append(now.Members, m)
	}
	for _, p := range found.Problems {
		now.Problems = append(now.Problems, problem{p.Kind, p.From, p.To, p.ID, p.Text})
	}
	return now
}

// isReady reports whether this instance does what it is there for.
func isReady(c *libcluster.Cluster) (ready bool, why error) {
	why = c.Err()
	return why == nil, why
}

// cannotLook reports whether the registry can never tell the coverage.
func cannotLook(err error) bool { return errors.Is(err, libcluster.ErrCannotLook) }
