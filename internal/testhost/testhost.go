// Package testhost shares what a machine has among the tests that run on it.
package testhost

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// Parallel says how many parallel tests of a package run at once, unless the flag -parallel does.
// By default there is one for each processor, and most tests wait. Call it before flags are parsed.
func Parallel(n int) {
	if err := flag.Set("test.parallel", strconv.Itoa(n)); err != nil {
		panic(err)
	}
}

// FreePort returns a port of TCP and UDP on which nobody listens, another one each time, and in
// each process that tests: it may be some time until something listens there, or again. It
// is not one that the system gives to clients that ask for any: they could take it
// meanwhile, or one that dials a server that is down could be connected to itself.
func FreePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := 10000 + rand.IntN(10000)
		// Other tests find this one in use, until this process ends.
		reservation, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port+10000))
		if err != nil {
			continue
		}
		if !free(port) {
			reservation.Close()
			continue
		}
		reservations.Store(port, reservation)
		return port
	}
	t.Fatal("no free port")
	return 0
}

// FreeAddress returns an address of this machine with a FreePort.
func FreeAddress(t testing.TB) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", FreePort(t))
}

func free(port int) bool {
	address := fmt.Sprintf("127.0.0.1:%d", port)
	tcp, err := net.Listen("tcp4", address)
	if err != nil {
		return false
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp4", address)
	if err != nil {
		return false
	}
	defer udp.Close()
	return true
}

// reservations are those of FreePort. One that nothing refers to would be closed.
var reservations sync.Map
