package main

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"golang.org/x/sync/errgroup"

	"github.com/libcluster/libcluster"
)

// runBackend is a back end, until ctx ends.
func runBackend(ctx context.Context, l net.Listener, registry libcluster.Registry) error {
	cluster, err := newCluster(registry, l.Addr().String())
	if err != nil {
		return err
	}
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.Go(func() error { return serve(ctx, l, backend(cluster)) })
	tasks.Go(func() error {
		return cluster.RunPartitions(ctx, func(ctx context.Context, _ libcluster.Partition) error {
			<-ctx.Done() // a back end that keeps something in memory writes it down here
			return nil
		})
	})
	return tasks.Wait()
}

// backend answers for the accounts that this instance owns, and refuses others. A request may take
// longer than the partition stays: what it writes should be under a fence then, see
// [libcluster.Cluster.PartitionFence].
func backend(cluster *libcluster.Cluster) http.Handler {
	routes := http.NewServeMux()
	routes.HandleFunc("/accounts/{account}", func(w http.ResponseWriter, r *http.Request) {
		account := r.PathValue("account")
		if !cluster.State().Owns(account) {
			http.Error(w, "another instance owns this account", http.StatusMisdirectedRequest)
			return
		}
		fmt.Fprintf(w, "%s owns %s\n", cluster.ID(), account)
	})
	return routes
}
