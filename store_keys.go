package libcluster

import (
	"slices"
	"strconv"
	"strings"

	"github.com/libcluster/libcluster/kv"
)

// What a cluster with a plan has besides its members is below an empty segment,
// where no ID, environment or partition can be. All members watch what is public.
const (
	publicKeys       = "/p/"
	planKey          = publicKeys + "plan"
	coordinatorKey   = publicKeys + "coordinator"
	acknowledgedKeys = "/acknowledged/"
	// besideKeys are what package heartbeats keeps beside the members.
	besideKeys = "/heartbeats/"
)

// drainingKeys are the keys of what operators ask for, each with an instance's ID.
const drainingKeys = publicKeys + "draining/"

// mostDraining is how many of them count.
const mostDraining = 10_000

// isOfPlan reports whether a key is one of libcluster's own besides the members' records.
func isOfPlan(key string) bool {
	return strings.HasPrefix(key, publicKeys) || strings.HasPrefix(key, acknowledgedKeys) || strings.HasPrefix(key, besideKeys)
}

func incarnationOf[O ~int64](owner O) string { return strconv.FormatInt(int64(owner), 16) }

// noteOf is the record that says up to which generation an incarnation has stopped.
// Behind a space is what it has not stopped.
func noteOf(of kv.Owner, generation int64, remaining string, under kv.Owner) kv.Record {
	value := strconv.AppendInt(nil, generation, 10)
	if remaining != "" {
		value = append(append(value, ' '), remaining...)
	}
	return kv.Record{Key: acknowledgedKeys + incarnationOf(of), Value: value, Owner: under}
}

// readNote reads the value of a note that an incarnation has written.
func readNote(value []byte) (generation int64, remaining string, err error) {
	number, remaining, _ := strings.Cut(string(value), " ")
	generation, err = strconv.ParseInt(number, 10, 64)
	return generation, remaining, err
}

// saysAsMuch reports whether a note says that all has stopped that a later one would say.
func saysAsMuch(note kv.Record, generation int64, remaining string) bool {
	its, left, err := readNote(note.Value)
	if err != nil || its != generation {
		return false
	}
	has, err1 := parsePartitions(left, MaxPartitions)
	mayHave, err2 := parsePartitions(remaining, MaxPartitions)
	return err1 == nil && err2 == nil && len(has.minus(mayHave)) == 0
}

// writtenIn are the keys besides its own that a session of a mode may have to write.
func writtenIn(mode Mode, passive bool) []string {
	if passive || mode == ModeDirect {
		return nil
	}
	return []string{planKey, coordinatorKey, acknowledgedKeys + "0"}
}

// reflect notes what a public record holds.
func (now *Planning) reflect(r kv.Record, gone bool) {
	switch r.Key {
	case planKey:
		now.Plan, now.Revision = r.Value, r.Version
		if gone {
			now.Plan, now.Revision = nil, 0
		}
	case coordinatorKey:
		now.Coordinator = r.Value
		if gone || r.Owner == 0 { // without a lease: another program has written it
			now.Coordinator = nil
		}
	default:
		if id, draining := strings.CutPrefix(r.Key, drainingKeys); draining {
			now.reflectDraining(id, gone)
		}
	}
}

// reflectDraining notes what an operator asks for, in a slice of its own: others have the one
// before.
func (now *Planning) reflectDraining(id string, gone bool) {
	at, known := slices.BinarySearch(now.Draining, id)
	switch {
	case known && gone:
		now.Draining = slices.Delete(slices.Clone(now.Draining), at, at+1)
	case !known && !gone && len(now.Draining) < mostDraining && checkName("ID", id) == nil:
		now.Draining = slices.Insert(slices.Clone(now.Draining), at, id)
	}
}

// eventOf translates one record. Whether it is a member's depends on nothing but what the
// store holds, so that all instances agree: what does not parse is no member, also
// if it was one before. The error says why.
func eventOf(r kv.Record, gone bool) (Event, error) {
	none := Event{Member: Member{ID: r.Key}, Gone: true}
	if gone || isOfPlan(r.Key) {
		return none, nil
	}
	member, err := ParseMember(r.Key, r.Value)
	if err != nil {
		return none, err
	}
	return Event{Member: member, Orphan: r.Owner == 0}, nil
}

// found adds a record to the foreign ones, if that is why it is no member's. Enough of them
// are kept to report that there are many.
func found(all []foreign, prefix string, r kv.Record, why error) []foreign {
	if why == nil || len(all) > mostForeign || isOfAnother(r) {
		return all
	}
	return append(all, foreign{prefix + r.Key, why})
}

// isOfAnother reports whether a record is of a cluster whose name begins with this one's: a
// member's or of a plan. Some stores keep clusters in one another.
func isOfAnother(r kv.Record) bool {
	env, key, nested := strings.Cut(r.Key, "/")
	if !nested || checkName("Env", env) != nil {
		return false
	}
	_, err := ParseMember(key, r.Value)
	return err == nil || isOfPlan(key)
}
