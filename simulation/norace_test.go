//go:build !race

package simulation

// As many as an everyday run has time for; -seeds gives more.
const defaultSeeds = 150
