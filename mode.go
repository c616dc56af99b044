package libcluster

import "fmt"

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
)

// modeNames are the words for the modes, in records and on command lines.
var modeNames = [...]string{ModeDirect: "direct", ModePlanned: "planned", ModeExclusive: "exclusive"}

// String returns "direct", "planned" or "exclusive".
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
	return fmt.Errorf("libcluster: mode %.20q: must be direct, planned or exclusive", text)
}

// ModeError means that an instance was refused because the cluster has another mode.
type ModeError struct {
	// Mode is the instance's mode, and Cluster is the mode of the cluster.
	Mode, Cluster Mode
}

func (e *ModeError) Error() string {
	return fmt.Sprintf("libcluster: Config.Mode: %v: the cluster runs in mode %v; give all of its instances the same",
		e.Mode, e.Cluster)
}
