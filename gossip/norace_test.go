//go:build !race

package gossip_test

// atOnce is how many tests run side by side.
const atOnce = 8

const crowd = 30
