//go:build !race

package gossip_test

// atOnce is how many tests run side by side.
const atOnce = 8

// crowd is how many instances there are where there are many.
const crowd = 30
