package peers_test

import (
	"context"
	"fmt"
	"log"
	"net/http"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/peers"
)

// byPrimary has serve answer at the primary, to which the other instances send requests on.
func byPrimary(cluster *libcluster.Cluster, serve http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		primary, ok := cluster.Primary()
		switch {
		case !ok:
			w.Header().Set("Retry-After", "1")
			http.Error(w, "there is no primary", http.StatusServiceUnavailable)
		case primary.ID != cluster.ID():
			http.Redirect(w, r, "http://"+primary.Address+r.URL.RequestURI(), http.StatusTemporaryRedirect)
		default:
			serve.ServeHTTP(w, r)
		}
	})
}

// Followers send requests on to the primary, as QCluster's example does it. Each instance
// publishes where it serves.
func ExampleLoad() {
	const site = "localhost:8001"
	p, err := peers.Load("server_a.json")
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	cluster, err := libcluster.New(libcluster.Config{Key: "web", ID: p.Self().ID, Address: site, Registry: p})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	if err := cluster.Join(ctx); err != nil {
		log.Fatal(err)
	}
	defer cluster.Leave(ctx)
	log.Print(http.ListenAndServe(site, byPrimary(cluster, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "served by", cluster.ID())
	}))))
}
