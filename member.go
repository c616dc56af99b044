package libcluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxWorkers is the largest number of workers that one instance, and one
	// cluster in total, may have: 2^31-1, so that an index fits 32 bits
	// whatever reads it.
	MaxWorkers = math.MaxInt32

	// MaxPartitions is the largest number of partitions in mode [ModeCooperative].
	MaxPartitions = 1 << 16

	// maxName is the longest key, environment, partition or ID, in bytes.
	// Each becomes one segment of a registry's path.
	maxName = 255

	// maxRecord bounds a member's record. Each member watches the records of all
	// others, so the whole cluster would pay for one huge value.
	maxRecord = 64 << 10

	// Lease times are whole seconds in etcd, and it grants no less than 2 s
	// with its default election timeout.
	minTTL = time.Second
	maxTTL = 24 * time.Hour

	// maxGeneration bounds what is read. It is that of the year 140,000 or so.
	maxGeneration = 1 << 60
)

// Member is what an instance publishes of itself.
type Member struct {
	// ID is unique in the cluster. Members are ordered by it, bytewise.
	ID string
	// Workers is the number of worker indexes that the member holds,
	// 1 to [MaxWorkers].
	Workers int
	// Address is where others reach the application, in whatever form the
	// application likes. Optional.
	Address string
	// Version is the application's version. Optional.
	Version string
	// Metadata is anything else that others should know. Optional.
	Metadata map[string]string

	plans    planner // what the planned modes need to know of a member
	reserved bool    // it has left for a restart, and its assignment is reserved
}

// planner is what a member of a cluster with a plan publishes besides.
type planner struct {
	scheme
	// window is how long after its last renewal the member may still act.
	// Exclusive mode only.
	window time.Duration
	// seen is the newest generation that the instance knew of when it joined.
	seen int64
	// draining asks for no assignment.
	draining bool
}

// Assignment is a member and the range that it holds: the worker indexes
// [Index, Index+Workers). In mode [ModeCooperative] it holds partitions instead, see
// [Assignment.Holds]: Index is the lowest of them, or -1 if it holds none.
type Assignment struct {
	Member
	Index int

	held partitionSet // in mode cooperative
}

// memberJSON is the long form of a record; the short form is the decimal
// worker count alone.
type memberJSON struct {
	Workers  int               `json:"workers"`
	Address  string            `json:"address,omitempty"`
	Version  string            `json:"version,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
	// Of a cluster with a plan.
	Mode       Mode  `json:"mode,omitempty"`
	Partitions int   `json:"partitions,omitempty"`
	Window     int64 `json:"window,omitempty"` // in milliseconds
	Seen       int64 `json:"seen,omitempty"`
	Draining   bool  `json:"draining,omitempty"`
	// Of one that has left.
	Reserved bool `json:"kept,omitempty"`
}

// Record returns the member's wire form, without its ID: the plain decimal
// worker count while there is nothing else to say, so that a person can read
// and write it, and a JSON object otherwise.
func (m Member) Record() []byte {
	if m.Address == "" && m.Version == "" && len(m.Metadata) == 0 && m.plans == (planner{}) && !m.reserved {
		return strconv.AppendInt(nil, int64(m.Workers), 10)
	}
	record, err := json.Marshal(memberJSON{
		m.Workers, m.Address, m.Version, m.Metadata,
		m.plans.mode, m.plans.partitions, m.plans.window.Milliseconds(), m.plans.seen, m.plans.draining, m.reserved,
	})
	if err != nil { // strings, numbers, a map of strings and a known mode always marshal
		panic(err)
	}
	return record
}

// ParseMember reads a record, as [Member.Record] writes it, of the member id.
// Space around it is ignored and so are unknown JSON fields, which leaves room
// for later releases. For any other text ParseMember returns an error and never panics,
// since anybody may write below a cluster's key.
func ParseMember(id string, record []byte) (Member, error) {
	if err := checkName("ID", id); err != nil {
		return Member{}, err
	}
	if len(record) > maxRecord {
		return Member{}, fmt.Errorf("record has %d bytes, more than %d", len(record), maxRecord)
	}
	record = bytes.TrimSpace(record)
	if len(record) > 0 && record[0] == '{' {
		var m memberJSON
		if err := json.Unmarshal(record, &m); err != nil {
			return Member{}, fmt.Errorf("record is not a member's JSON: %.100s", err.Error()) // it quotes the record
		}
		if err := checkWorkers(m.Workers); err != nil {
			return Member{}, err
		}
		plans := planner{scheme{m.Mode, m.Partitions}, time.Duration(m.Window) * time.Millisecond, m.Seen, m.Draining}
		if m.Partitions < 0 || m.Partitions > MaxPartitions {
			return Member{}, fmt.Errorf("partitions %d: must be 0 to %d", m.Partitions, MaxPartitions)
		}
		if m.Window < 0 || m.Window > maxTTL.Milliseconds() || m.Seen < 0 || m.Seen > maxGeneration {
			return Member{}, fmt.Errorf("window %d and seen %d: must be 0 to a day, and a generation", m.Window, m.Seen)
		}
		return Member{id, m.Workers, m.Address, m.Version, m.Metadata, plans, m.Reserved}, nil
	}
	workers, err := parseCount(record)
	if err != nil {
		return Member{}, err
	}
	return Member{ID: id, Workers: workers}, nil
}

// parseCount reads digits only: no sign, no underscore, no fraction.
func parseCount(record []byte) (int, error) {
	const shown = 20
	if len(record) == 0 {
		return 0, errors.New("record is empty, not a worker count")
	}
	for _, c := range record {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("record %.*q is neither a worker count nor a JSON object", shown, record)
		}
	}
	n, err := strconv.ParseInt(string(record), 10, 64)
	if err != nil || n < 1 || n > MaxWorkers {
		return 0, fmt.Errorf("worker count %.*s is outside 1 to %d", shown, record, MaxWorkers)
	}
	return int(n), nil
}

func (m Member) clone() Member {
	m.Metadata = maps.Clone(m.Metadata)
	return m
}

func checkWorkers(n int) error {
	if n < 1 || n > MaxWorkers {
		return fmt.Errorf("Workers %d: must be 1 to %d", n, MaxWorkers)
	}
	return nil
}

// checkName tells whether s can be one segment of a registry's path.
func checkName(field, s string) error {
	broken := ""
	switch {
	case s == "":
		broken = "must not be empty"
	case len(s) > maxName:
		return fmt.Errorf("%s %.20q… has %d bytes: must be at most %d", field, s, len(s), maxName)
	case !utf8.ValidString(s):
		broken = "must be valid UTF-8"
	default:
		for _, r := range s {
			if r == '/' {
				broken = "must not contain '/'"
			} else if !unicode.IsPrint(r) {
				broken = fmt.Sprintf("must be printable, and %q is not", r)
			}
		}
	}
	if broken == "" {
		return nil
	}
	return fmt.Errorf("%s %q: %s", field, s, broken)
}

// MembersChange is how the members have changed since the last call of
// [Config.OnMembers]. Each list is ordered by ID, and an ID is in one of them only. All
// members in it are the receiver's.
type MembersChange struct {
	// Joined are members that were not there before. In the first call they are all that
	// there are, this instance included unless it is passive.
	Joined []Member
	// Left are members that have gone, as they were last. A member that has left for a
	// restart ([Returning]) has gone, too, and joins when it is back.
	Left []Member
	// Changed are members that have published something else, by the same instance or by
	// another one of that ID.
	Changed []MemberUpdate
}

// MemberUpdate is a member before and after a change.
type MemberUpdate struct{ Before, After Member }

func (c MembersChange) isEmpty() bool { return len(c.Joined)+len(c.Left)+len(c.Changed) == 0 }

// errTotal is of a total that no member may cause.
func errTotal(total int64) error {
	return fmt.Errorf("Workers: the cluster's total would be %d, must be at most %d", total, MaxWorkers)
}

// sameTo reports whether what a member says to applications is the same.
func (m Member) sameTo(n Member) bool {
	return m.ID == n.ID && m.Workers == n.Workers && m.Address == n.Address && m.Version == n.Version &&
		maps.Equal(m.Metadata, n.Metadata)
}
