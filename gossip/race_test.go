//go:build race

package gossip_test

import "runtime"

// In a bubble Go 1.26 runs a timer in the goroutine that finds it due, and its race detector crashes
// if two do so at the same moment. In a network in memory that happens. What it costs is that the
// detector sees fewer orders of events in this package.
func init() { runtime.GOMAXPROCS(1) }

// atOnce is how many tests run side by side. With the race detector they compute so much that
// more of them starve one another, and a node that gets no processor is taken for a dead one.
const atOnce = 2

// crowd is how many instances there are where there are many. All their nodes compute here.
const crowd = 10
