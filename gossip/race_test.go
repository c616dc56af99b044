//go:build race

package gossip_test

// atOnce is how many tests run side by side. With the race detector they compute so much that
// more of them starve one another, and a node that gets no processor is taken for a dead one.
const atOnce = 2
