package libcluster

// Arrange returns the members with their ranges in a cluster of this mode. Its arguments
// are the assignments before a change, and the members after the change, newcomers last. The
// cluster itself uses the same rules, but Arrange needs no cluster: it answers what a
// change would move. The ranges tile, in order. Neither argument is changed.
//
// Direct mode sorts by ID, whatever last is. With a plan, members keep their ranges as far
// as they can, in the same way in [ModePlanned] and in [ModeExclusive]. In [ModeCooperative]
// they keep their partitions; there are as many as last has, or [DefaultPartitions]: see
// [ArrangePartitions].
func (m Mode) Arrange(last []Assignment, members []Member) []Assignment {
	switch m {
	case ModeDirect:
	case ModeCooperative:
		return ArrangePartitions(DefaultPartitions, last, members)
	default:
		return arrange(last, members)
	}
	x := newIndex("")
	for _, m := range members {
		x.put(m)
	}
	return x.assignments()
}

// ArrangePartitions is [Mode.Arrange] in mode [ModeCooperative] with another number of
// partitions. It counts if last has none.
func ArrangePartitions(partitions int, last []Assignment, members []Member) (assignments []Assignment) {
	before := &plan{}
	for _, p := range last {
		before.total += p.held.count()
		before.lines = append(before.lines, planned{Assignment: p})
	}
	if before.total == 0 {
		before.total = partitions
	}
	recorded := make([]Recorded, len(members))
	for i, m := range members {
		recorded[i] = Recorded{Member: m}
	}
	owners := balancePartitions(before.ownersAmong(recorded), weightsOf(recorded))
	for i, held := range partitionsOf(owners, len(members)) {
		assignments = append(assignments, Assignment{Member: members[i], Index: held.first(), held: held})
	}
	return assignments
}
