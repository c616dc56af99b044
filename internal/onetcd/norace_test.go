//go:build !race

package onetcd_test

const joinAtOnce = 100
