package gossip

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/libcluster/libcluster"
)

// message is all that nodes say to one another besides what memberlist says. Each field is
// optional but From and Address.
type message struct {
	From    string `json:"from"`    // the node's name
	Address string `json:"address"` // HOST:PORT, where an answer goes
	// Entries are records.
	Entries []entry `json:"entries,omitempty"`
	// Ask asks for an answer with the same number, as soon as Entries have been taken in.
	Ask uint64 `json:"ask,omitempty"`
	// Hold asks to keep the sender's record for that many milliseconds even if the sender
	// seems to be down.
	Hold int64 `json:"hold,omitempty"`
	// Answer is the answer to the question of that number.
	Answer uint64 `json:"answer,omitempty"`
	// Vouches says that the sender is a member, and has the record that it was asked about.
	Vouches bool `json:"vouches,omitempty"`
	// Sum is the sum of the sender's digest. A node whose digest has another sum answers with its
	// Digest.
	Sum *uint64 `json:"sum,omitempty"`
	// Digest asks for the entries that the digest lacks.
	Digest map[string]uint64 `json:"digest,omitempty"`
}

func (m message) encode() []byte {
	text, err := json.Marshal(m)
	if err != nil { // strings, numbers and bytes always marshal
		panic(err)
	}
	return text
}

// decode reads a message, and drops entries that are no member's.
func decode(text []byte) (message, error) {
	var m message
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fmt.Errorf("a message is not understood: %w", err)
	}
	kept := m.Entries[:0]
	for _, e := range m.Entries {
		var err error
		if e.member, err = libcluster.ParseMember(e.ID, e.Record); err == nil || e.Gone {
			kept = append(kept, e)
		}
	}
	m.Entries = kept
	return m, nil
}

func (m message) hold() time.Duration { return time.Duration(m.Hold) * time.Millisecond }
