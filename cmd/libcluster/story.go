package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/libcluster/libcluster"
)

// story is a scenario as it is made up: who there is, and what happens.
type story struct {
	*scenario
	random  *rand.Rand
	joined  int // how many there have been so far
	members []libcluster.Member
	steps   [][]libcluster.Member // of the change that is being told
}

// tell makes up who is there at first and what happens then: the same for the same
// seed.
func (s *scenario) tell(seed uint64) (start []libcluster.Member, changes []change, err error) {
	t := &story{scenario: s, random: rand.New(rand.NewPCG(seed, 0)), members: slices.Clone(s.live), joined: len(s.live)}
	if len(s.live) == 0 {
		if _, err := t.change(asked{"members", s.members}); err != nil {
			return nil, nil, err
		}
	}
	start = slices.Clone(t.members)
	for _, a := range s.changes {
		c, err := t.change(a)
		if err != nil {
			return nil, nil, err
		}
		changes = append(changes, c)
	}
	return start, changes, nil
}

// change has what is asked for happen to one member after another.
func (t *story) change(a asked) (change, error) {
	name := a.flag + " " + a.value
	ids, err := whom(a.value)
	happens := t.join
	switch a.flag {
	case "leave":
		happens = t.leave
	case rollingRestart:
		name, happens = "rolling restart", t.restart
		if a.value == placesKept {
			name, happens = name+", kept", t.restartInPlace
		} else if a.value != placesFreed {
			return change{}, fmt.Errorf("--%s %q: must be %s or %s", a.flag, a.value, placesFreed, placesKept)
		}
		ids, err = nil, nil
		for _, m := range t.members {
			ids = append(ids, m.ID)
		}
	}
	t.steps = nil
	for _, id := range ids {
		if err == nil {
			err = happens(id)
		}
	}
	if err != nil {
		return change{}, fmt.Errorf("--%s %q: %w", a.flag, a.value, err)
	}
	return change{name, t.steps}, nil
}

// whom reads names, or a number of members whose names do not matter.
func whom(value string) ([]string, error) {
	n, err := strconv.Atoi(value)
	if err != nil {
		ids := strings.Split(value, ",")
		if slices.Contains(ids, "") {
			return nil, errors.New("a name is empty")
		}
		return ids, nil
	}
	if n < 1 || n > maxSimulated {
		return nil, fmt.Errorf("must be 1 to %d, or names", maxSimulated)
	}
	return make([]string, n), nil
}

func (t *story) step() { t.steps = append(t.steps, slices.Clone(t.members)) }

func (t *story) find(id string) int {
	return slices.IndexFunc(t.members, func(m libcluster.Member) bool { return m.ID == id })
}

func (t *story) join(id string) error {
	if id == "" {
		id = t.newID()
	}
	if _, err := libcluster.ParseMember(id, []byte("1")); err != nil {
		return err
	}
	if t.find(id) >= 0 {
		return fmt.Errorf("%q is there already", id)
	}
	m := libcluster.Member{ID: id, Workers: t.counts[t.joined%len(t.counts)]}
	t.joined++
	t.members = append(t.members, m)
	workers := 0
	for _, m := range t.members {
		workers += m.Workers
	}
	if len(t.members) > maxSimulated || workers > maxSimulatedWorkers {
		return fmt.Errorf("at most %d members and %d workers are simulated", maxSimulated, maxSimulatedWorkers)
	}
	t.step()
	return nil
}

// newID is a number where members keep their IDs, and otherwise as random as those that
// the library makes.
func (t *story) newID() string {
	if t.named() {
		return "node" + strconv.Itoa(t.joined+1)
	}
	return fmt.Sprintf("%016x%016x", t.random.Uint64(), t.random.Uint64())
}

func (t *story) leave(id string) error {
	if id == "" {
		id = t.members[t.random.IntN(len(t.members))].ID
	}
	i := t.find(id)
	switch {
	case i < 0:
		return fmt.Errorf("%q is not there", id)
	case len(t.members) == 1:
		return errors.New("nobody would be left")
	}
	t.members = slices.Delete(t.members, i, i+1)
	t.step()
	return nil
}

// restart has a member leave and come back, by its own name if it was given one.
func (t *story) restart(id string) error {
	m := t.members[t.find(id)]
	if err := t.leave(id); err != nil {
		return err
	}
	if !t.named() {
		m.ID = t.newID()
	}
	t.members = append(t.members, m)
	t.step()
	return nil
}

// restartInPlace has a member leave and come back while its assignment is kept.
func (t *story) restartInPlace(string) error {
	t.step()
	return nil
}
