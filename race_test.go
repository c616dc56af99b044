//go:build race

package libcluster_test

// The race detector makes a seed some ten times slower.
const defaultExclusiveSeeds = 20
