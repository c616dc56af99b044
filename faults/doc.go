// Package faults proves what libcluster promises about the loss of its
// registry, on real etcd servers and with real faults: processes that are killed
// or frozen, connections that are cut, slow or reset, a store that is full,
// rolled back or emptied.
//
// It holds tests only. Servers, and the members that are to be killed or frozen,
// are processes of their own: the test binary runs itself in another role.
// Everything is timed by one machine's CLOCK_BOOTTIME, so it can be told which
// came first, the end of a member's belief in its place or the end of its
// record; hence the tests are for Linux.
//
// They take minutes and want the machine for themselves, so they are behind a
// build tag. Each test logs a row of figures. The everyday run, which CI makes
// too, and one for the big figures are
//
//	go test -tags faults -v ./faults
//	go test -tags faults -v -timeout 2h ./faults -trials 1000 -long
//
// In one test processes in exclusive mode suffer everything at random, on etcd, PostgreSQL,
// SQLite, a shared folder and peers, for a minute each or as long as is asked for, and in another
// one processes in cooperative mode. Peers have network namespaces, which need root, iproute2 and
// iptables; -skip /Peers does without:
//
//	go test -tags faults -v -timeout 1h ./faults -run ExclusiveMode -exclusive 10m
//	go test -tags faults -v -timeout 1h ./faults -run CooperativeMode -cooperative 10m
//
// What each process does is a line of one file, whose order is the kernel's. In cooperative
// mode each partition's runs are compared with one another, and each stop of a partition with
// all plans that etcd remembers.
package faults
