//go:build race

package libcluster_test

// The race detector makes a seed some ten times slower. The same code runs in each.
const defaultExclusiveSeeds = 8
