package libcluster

// Arrange returns the places that members have in a cluster of this mode: from the
// places before a change, and the members after it, newcomers last. It is what the
// cluster itself goes by, and no cluster is needed to ask: it answers what a change
// would move. The places tile, in order; neither argument is changed.
//
// Direct mode sorts by ID, whatever was before. With a plan members keep their
// places as far as they can, the same in [ModePlanned] and in [ModeExclusive].
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
