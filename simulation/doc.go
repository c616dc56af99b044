// Package simulation proves what libcluster promises in virtual time, on the
// registry in memory. It holds tests only:
//
//   - a simulation: clusters to which everything happens that can, in an order
//     that a seed decides, with the promises checked after each step and in each
//     callback;
//   - stories: what happens in the situations that one meets, told step by step in
//     testdata;
//   - a fuzz test of all that other programs may write, and a stress test of starting
//     and stopping.
//
// A run of the simulation with more seeds, or other ones, and one of a seed that
// has failed:
//
//	go test ./simulation -run Promises -timeout 1h -seeds 100000 -first 1000000
//	go test ./simulation -run Promises -seed 4711
//
// A seed decides what happens, and what the instances leave to chance. In a test
// process it does not decide which of two goroutines that are ready at one instant
// runs first, nor what select picks: 20 runs of one seed are 20 histories. That is
// why a seed that is asked for is run many times. In WebAssembly these have one
// order, which is a number, so that a seed in an order is one history, on any
// machine. That is the way to look at a seed that has failed:
//
//	go -C internal/tools run ./replay -first 4711 -seeds 1 -orders 300
//	go -C internal/tools run ./replay -first 4711 -seeds 1 -order 17 -v
package simulation
