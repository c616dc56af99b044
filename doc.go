// Package libcluster tells each instance of an application which range of
// cluster-wide worker indexes is its own, and how many there are in all.
package libcluster
