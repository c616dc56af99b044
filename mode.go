package libcluster

import "fmt"

// Mode is how the members of a cluster come to their places. All instances of a
// cluster have the same; one that joins with another is refused with a [ModeError].
// To change it, have all instances leave, and then start them in the new mode. Mode
// [ModeExclusive] then waits first for as long as anybody could act by a plan of the mode
// before.
type Mode int

const (
	// ModeDirect has each instance watch all members and sort them by ID. It writes
	// the least, and until all have seen a change two may hold the same index.
	ModeDirect Mode = iota
	// ModePlanned has one plan say who holds which place. Places are sticky: a
	// newcomer goes to the end, a hole is filled by the last, and nobody else
	// moves. Nobody waits: until all have seen a new plan two may hold the same
	// index, as in mode direct.
	ModePlanned
	// ModeExclusive is ModePlanned, and never two at once: at no instant do two instances
	// act on overlapping ranges or on different totals. At a change all stop
	// first, and none starts before all have. An instance that vanished is waited
	// for until it must have stopped by any clock.
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

// ModeError is why an instance is refused by a cluster of another mode.
type ModeError struct {
	// Mode is what was asked for, and Cluster what runs there.
	Mode, Cluster Mode
}

func (e *ModeError) Error() string {
	return fmt.Sprintf("libcluster: Config.Mode: %v: the cluster runs in mode %v; give all of its instances the same",
		e.Mode, e.Cluster)
}
