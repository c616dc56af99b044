// Package onetcd tries the library on a real etcd, in real time. It holds tests only: what is
// tried in virtual time is in the root, and what etcd suffers is in faults.
package onetcd
