package main

import (
	"github.com/libcluster/libcluster"
)

// modes are those that are compared. In exclusive mode assignments are those of planned.
var modes = []libcluster.Mode{libcluster.ModeDirect, libcluster.ModePlanned, libcluster.ModeCooperative}

// function is a way from key to worker. Keys are random numbers, so each is its
// own hash.
type function struct {
	name, field string
	slot        func(key uint64, total int) int
}

var functions = [...]function{
	{"hash % total", "modulo", func(key uint64, total int) int { return int(key % uint64(total)) }},
	{"Slot", "slot", libcluster.Slot[uint64]},
}

// change is what happens to the members, in steps that each are seen by all.
type change struct {
	name  string
	steps [][]libcluster.Member
}

// outcome is what a change does to those who were there.
type outcome struct {
	change, mode   string
	members, total int // after it
	renumbered     []renumbering
	// moved is how often a key goes from one member to another, for each of the
	// functions: 1 if each key moves once. least is the least that there can be.
	moved [len(functions)]float64
	least float64
}

// renumbering is what becomes of a member that gets other indexes and does not
// restart meanwhile.
type renumbering struct {
	ID    string `json:"id"`
	From  int    `json:"from"`
	To    int    `json:"to"`
	Times int    `json:"times"`
}

// measure makes one change after another.
func measure(m libcluster.Mode, partitions int, start []libcluster.Member, changes []change, keys *keys) []outcome {
	var outcomes []outcome
	var last []libcluster.Assignment
	if m == libcluster.ModeCooperative {
		last = libcluster.ArrangePartitions(partitions, nil, start)
	} else {
		last = m.Arrange(nil, start)
	}
	for _, c := range changes {
		o := outcome{change: c.name, mode: m.String()}
		known := map[string]int{}
		for _, members := range c.steps {
			next := m.Arrange(last, members)
			o.renumber(known, last, next)
			for f := range functions {
				o.moved[f] += keys.moved(f, last, next)
			}
			o.least += leastMoved(last, next)
			last = next
		}
		o.members, o.total = len(last), total(last)
		outcomes = append(outcomes, o)
	}
	return outcomes
}

// renumber notes which members have another index in the next assignments. known are the members
// that are noted already.
func (o *outcome) renumber(known map[string]int, last, next []libcluster.Assignment) {
	before := make(map[string]int, len(last))
	for _, p := range last {
		before[p.ID] = p.Index
	}
	for _, p := range next {
		was, there := before[p.ID]
		if !there || was == p.Index || o.mode == libcluster.ModeCooperative.String() {
			continue
		}
		i, again := known[p.ID]
		if !again {
			i = len(o.renumbered)
			known[p.ID] = i
			o.renumbered = append(o.renumbered, renumbering{ID: p.ID, From: was})
		}
		o.renumbered[i].To = p.Index
		o.renumbered[i].Times++
	}
}

// leastMoved is the share of the keys that any function must move from one member
// to another, if each has had as many as it has workers or partitions, and is to have again.
func leastMoved(last, next []libcluster.Assignment) float64 {
	before := shares(last)
	least := 0.0
	for id, share := range shares(next) {
		least += max(0, share-before[id])
	}
	return least
}

// shares returns how much of all each member has: of the indexes, or of the partitions.
func shares(places []libcluster.Assignment) map[string]float64 {
	share, all := make(map[string]float64, len(places)), 0.0
	for _, p := range places {
		for range p.Partitions() {
			share[p.ID]++
		}
		if share[p.ID] == 0 && p.Index >= 0 {
			share[p.ID] = float64(p.Workers)
		}
		all += share[p.ID]
	}
	for id := range share {
		share[id] /= all
	}
	return share
}

func total(places []libcluster.Assignment) (n int) {
	for _, p := range places {
		n += p.Workers
	}
	return n
}

// keys are a sample of all keys.
type keys struct {
	hashes []uint64
	ids    map[string]int32 // numbers for members, which are quicker to compare
	slots  map[question][]int32
}

// question is which slots the keys have, by one of the functions.
type question struct{ function, total int }

// maxAnswers is how many answers are kept. A restart of members of a few sizes asks
// for the same few totals all the time.
const maxAnswers = 32

func newKeys(n int, random func() uint64) *keys {
	k := &keys{hashes: make([]uint64, n), ids: map[string]int32{}, slots: map[question][]int32{}}
	for i := range k.hashes {
		k.hashes[i] = random()
	}
	return k
}

func (k *keys) slotsOf(q question) []int32 {
	if slots, ok := k.slots[q]; ok {
		return slots
	}
	if len(k.slots) >= maxAnswers {
		clear(k.slots)
	}
	slots := make([]int32, len(k.hashes))
	for i, hash := range k.hashes {
		slots[i] = int32(functions[q.function].slot(hash, q.total))
	}
	k.slots[q] = slots
	return slots
}

// moved returns the share of the keys that go from one member to another.
func (k *keys) moved(function int, last, next []libcluster.Assignment) float64 {
	before, after := k.members(last), k.members(next)
	was := k.slotsOf(question{function, len(before)})
	is := k.slotsOf(question{function, len(after)})
	moved := 0
	for i := range was {
		if before[was[i]] != after[is[i]] {
			moved++
		}
	}
	return float64(moved) / float64(len(was))
}

// members returns the number of the member that holds each index, or each partition.
func (k *keys) members(places []libcluster.Assignment) []int32 {
	var members []int32
	for _, p := range places {
		id, known := k.ids[p.ID]
		if !known {
			id = int32(len(k.ids))
			k.ids[p.ID] = id
		}
		if p.Index < 0 {
			continue // more members than partitions
		}
		partitions := false
		for n := range p.Partitions() {
			members = append(members, make([]int32, max(0, n+1-len(members)))...)
			members[n], partitions = id, true
		}
		for range p.Workers {
			if !partitions {
				members = append(members, id)
			}
		}
	}
	return members
}
