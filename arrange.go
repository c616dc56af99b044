package libcluster

// Arrange returns the members with their ranges in a cluster of this mode. Its arguments
// are the places before a change, and the members after the change, newcomers last. The
// cluster itself uses the same rules, but Arrange needs no cluster: it answers what a
// change would move. The ranges tile, in order. Neither argument is changed.
//
// Direct mode sorts by ID, whatever last is. With a plan, members keep their ranges as far
// as they can, in the same way in [ModePlanned] and in [ModeExclusive].
func (m Mode) Arrange(last []Place, members []Member) []Place {
	if m != ModeDirect {
		return arrange(last, members)
	}
	x := newIndex("")
	for _, m := range members {
		x.put(m)
	}
	return x.places()
}
