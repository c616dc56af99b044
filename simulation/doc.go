// Package simulation proves what libcluster promises in virtual time, on the
// registry in memory. It holds tests only:
//
//   - a simulation: clusters to which everything happens that can, in an order
//     that a seed decides, with the promises checked after each step and in each
//     callback;
//   - stories: what happens in the situations that one meets, told step by step in
//     testdata;
//   - a fuzz test of whatever strangers may write, and a stress test of starting
//     and stopping.
//
// A run of the simulation with more seeds, or other ones, and one of a seed that
// has failed:
//
//	go test ./simulation -run Promises -timeout 1h -seeds 100000 -first 1000000
//	go test ./simulation -run Promises -seed 4711
//
// The waits between an instance's attempts are random and not of the seed, so one
// seed is not one history. A seed that is asked for is run many times.
package simulation
