package peers_test

import (
	"fmt"

	"github.com/libcluster/libcluster/peers"
)

// A mistake in a file is an error that names the file, the entry and the field.
func ExampleNew() {
	_, err := peers.New(peers.Config{
		ID: "a", Listen: "localhost:7001", DataDir: "a.data",
		Peers: []peers.Peer{{ID: "b", Address: "localhost:7002"}, {ID: "c", Address: "localhost"}},
	})
	fmt.Println(err)
	// Output: peers: Peers[1].Address: "localhost" must be HOST:PORT
}
