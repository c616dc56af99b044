package libcluster

// State is one consistent snapshot of this instance's place in the cluster.
// It is a value: it does not change after it was handed out.
type State struct {
	// Index is the first worker index that this instance holds; it holds
	// [Index, Index+Workers). It is -1 when this instance is not an active
	// member: passive, not joined, leaving, or fenced.
	Index int
	// Workers is the number of this instance's workers as the cluster knows
	// it, which follows [Cluster.SetWorkers] with a short delay.
	Workers int
	// Total is the number of workers in the whole cluster, and while Index
	// is -1 that of the others, as far as known.
	Total int
	// Generation numbers the set of members that the state was computed from.
	// Instances that report the same generation computed their places from
	// the same members, so their ranges tile [0, Total). It only grows.
	Generation int64
}

// Active reports whether this instance holds a range.
func (s State) Active() bool { return s.Index >= 0 }

// Primary reports whether this instance holds index 0.
func (s State) Primary() bool { return s.Index == 0 }

// inactive is the state of the same cluster without this instance.
func (s State) inactive() State {
	if s.Active() {
		s.Index, s.Total = -1, s.Total-s.Workers
	}
	return s
}

// sameTo reports whether a callback that was told s has nothing to learn
// from t. A generation by itself is no news: it also counts changes that
// leave this instance's place as it was.
func (s State) sameTo(t State) bool {
	t.Generation = s.Generation
	return s == t
}
