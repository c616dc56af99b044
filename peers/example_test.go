package peers_test

import (
	"context"
	"fmt"
	"log"
	"net/http"

	"github.com/libcluster/libcluster"
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

// Followers send requests on to the primary, whose port is in its metadata, as QCluster's
// example does it.
func ExampleLoad() {
	p, err := peers.Load("server_a.json")
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	cluster, err := libcluster.New(libcluster.Config{
		Key: "web", ID: p.Self().ID, Metadata: p.Self().Metadata, Registry: p,
	})
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		for _, m := range cluster.Members() {
			if primary, ok := p.Peer(m.ID); ok && m.Index == 0 && m.ID != p.Self().ID {
				http.Redirect(w, r, "http://localhost:"+primary.Metadata["server_port"]+r.URL.Path, http.StatusFound)
				return
			}
		}
		fmt.Fprintln(w, "served by", p.Self().ID)
	})
	ctx := context.Background()
	if err := cluster.Join(ctx); err != nil {
		log.Fatal(err)
	}
	defer cluster.Leave(ctx)
	log.Print(http.ListenAndServe("localhost:8001", nil))
}
