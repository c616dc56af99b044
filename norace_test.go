//go:build !race

package libcluster_test

// As many as an everyday run has time for; -exclusive-seeds gives more.
const defaultExclusiveSeeds = 40
