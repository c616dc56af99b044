//go:build !race

package simulation

// As many as an everyday run has time for. CI simulates 10,000; -seeds gives more.
const defaultSeeds = 2_000
