package libcluster

import (
	"fmt"
	"strconv"
	"strings"
)

// Mode is how the members of a cluster get their assignments. All instances of a cluster
// have the same mode; an instance that joins with another mode is refused with a
// [ModeError]. To change the mode, have all instances leave, and then start them in the
// new mode. If that is [ModeExclusive], they first wait for as long as any instance could
// act on a plan of the earlier mode.
type Mode int

const (
	// ModeDirect has each instance watch all members and sort them by ID. It writes
	// the least. Until all have seen a change, two instances may hold the same index.
	ModeDirect Mode = iota
	// ModePlanned has one plan say which instance holds which range. Assignments are
	// sticky: a newcomer goes to the end, the last member fills a hole, and no other
	// member moves. Nobody waits: until all have seen a new plan, two instances may hold
	// the same index, as in mode direct.
	ModePlanned
	// ModeExclusive is ModePlanned, and never two at once: at no instant do two instances
	// act on overlapping ranges or on different totals. At a change all instances stop
	// first, and none starts before all have stopped. If an instance vanishes, the others
	// wait until it must have stopped, allowing for clock drift.
	ModeExclusive
	// ModeCooperative divides a fixed number of partitions ([Config.Partitions]) instead of
	// worker indexes, in proportion to Workers. At no instant do two instances act on one
	// partition, as in mode exclusive. But at a change an instance stops only the partitions
	// that it gives away; it does not notice a change of which it gives and gets nothing.
	// See [Cluster.RunPartitions].
	ModeCooperative
)

// modeNames are the words for the modes, in records and on command lines.
var modeNames = [...]string{ModeDirect: "direct", ModePlanned: "planned", ModeExclusive: "exclusive", ModeCooperative: "cooperative"}

// excludes reports whether no two instances ever act on the same, so that instances wait
// for one another.
func (m Mode) excludes() bool { return m == ModeExclusive || m == ModeCooperative }

// String returns "direct", "planned", "exclusive" or "cooperative".
func (m Mode) String() string {
	if m < 0 || int(m) >= len(modeNames) {
		return fmt.Sprintf("Mode(%d)", int(m))
	}
	return modeNames[m]
}

// MarshalText is String, but an unknown mode is an error.
func (m Mode) MarshalText() ([]byte, error) {
	if m < 0 || int(m) >= len(modeNames) {
		return nil, fmt.Errorf("libcluster: no such mode: %d", int(m))
	}
	return []byte(m.String()), nil
}

// UnmarshalText reads what MarshalText writes.
func (m *Mode) UnmarshalText(text []byte) error {
	for mode, name := range modeNames {
		if name == string(text) {
			*m = Mode(mode)
			return nil
		}
	}
	return fmt.Errorf("libcluster: mode %.20q: must be direct, planned, exclusive or cooperative", text)
}

// ModeError means that an instance was refused because the cluster has another mode, or
// another number of partitions.
type ModeError struct {
	// Mode is the instance's mode, and Cluster is the mode of the cluster.
	Mode, Cluster Mode
	// Partitions and ClusterPartitions are the numbers of partitions, in mode
	// [ModeCooperative]; otherwise 0.
	Partitions, ClusterPartitions int
}

func (e *ModeError) Error() string {
	if e.Mode == e.Cluster {
		return fmt.Sprintf("libcluster: Config.Partitions: %d: the cluster has %d partitions; give all of its instances the same number",
			e.Partitions, e.ClusterPartitions)
	}
	return fmt.Sprintf("libcluster: Config.Mode: %v: the cluster runs in mode %v; give all of its instances the same",
		e.Mode, e.Cluster)
}

// scheme is what all instances of a cluster must have in common: the mode, and in mode
// cooperative the number of partitions. Otherwise that is 0.
type scheme struct {
	mode       Mode
	partitions int
}

// String returns the mode, and behind a slash the number of partitions if there are any.
func (s scheme) String() string {
	if s.mode != ModeCooperative {
		return s.mode.String()
	}
	return s.mode.String() + "/" + strconv.Itoa(s.partitions)
}

// parseScheme reads what String writes.
func parseScheme(text string) (s scheme, err error) {
	name, partitions, _ := strings.Cut(text, "/")
	if err := s.mode.UnmarshalText([]byte(name)); err != nil {
		return s, err
	}
	if s.mode == ModeCooperative {
		s.partitions, err = strconv.Atoi(partitions)
	}
	return s, err
}

// refuses returns the error of an instance of this scheme in a cluster of another one.
func (s scheme) refuses(cluster scheme) *ModeError {
	return &ModeError{s.mode, cluster.mode, s.partitions, cluster.partitions}
}
