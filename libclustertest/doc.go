// Package libclustertest is a registry in memory, for the tests of applications
// that use libcluster, and of libcluster itself. It keeps the rules that etcd
// keeps, and on demand it breaks: requests hang, answers get lost, leases
// expire, the whole store goes back to an earlier state.
//
// A [Registry] goes into [libcluster.Config] as any other does. One value is one
// store, for any number of clusters and instances; what one instance writes the
// others see, and no two values know of one another.
//
//	registry := libclustertest.New()
//	a, err := libcluster.New(libcluster.Config{Key: "mailer", ID: "a", Registry: registry})
//	b, err := libcluster.New(libcluster.Config{Key: "mailer", ID: "b", Registry: registry})
//
// # Time
//
// A record lives as long as its lease, by the clock and whether or not anybody
// calls. Inside a bubble of [testing/synctest] that is the bubble's clock, and a
// test of minutes takes microseconds. A Registry has no goroutines. It belongs
// to the bubble in which it is first used, and may not be used outside it.
//
// # Names
//
// Clusters are named as [libcluster.Registration.Cluster] names them: KEY/ENV, or
// KEY/PARTITION/ENV. For a Config that gives only the key "mailer" that is
// "mailer/production".
//
// # What is not to be relied on
//
// Calls take no time unless an interceptor lets them. The store has one order of
// events and everybody sees it: an etcd of several servers has that too, but
// each instance may lag behind by another amount. Of a session that has fallen
// thousands of events behind, the next change is the whole list.
package libclustertest
