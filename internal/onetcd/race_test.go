//go:build race

package onetcd_test

// The race detector makes etcd's clients some ten times slower.
const joinAtOnce = 30
