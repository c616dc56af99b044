//go:build race

package simulation

// The race detector makes a seed some ten times slower.
const defaultSeeds = 60
