//go:build race

package simulation

// The race detector makes a seed some ten times slower. The same code runs in each.
const defaultSeeds = 20
