// Command frontend passes each request on to the instance that owns the account in its path.
//
//	go run ./examples/frontend -backend 127.0.0.1:8081    # one or more, each in a terminal
//	go run ./examples/frontend
//	curl http://127.0.0.1:8080/accounts/42
//
// It needs an etcd on port 2379. A back end is a member, and publishes its address. The front end
// is passive: it watches the cluster, and asks nobody which instance owns an account.
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/libcluster/libcluster"
)

func main() {
	etcd := flag.String("etcd", "http://127.0.0.1:2379", "the etcd's URL")
	listen := flag.String("listen", "127.0.0.1:8080", "where the front end listens")
	backend := flag.String("backend", "", "be a back end, at this address, which the front ends can reach")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	role, address := runFrontend, *listen
	if *backend != "" {
		role, address = runBackend, *backend
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	if err := role(ctx, l, libcluster.Etcd(*etcd)); err != nil {
		log.Fatal(err)
	}
}

// newCluster returns an instance of the cluster that front ends and back ends share.
func newCluster(registry libcluster.Registry, address string) (*libcluster.Cluster, error) {
	return libcluster.New(libcluster.Config{
		Key:        "frontend",
		ID:         address, // the same after a restart
		Address:    address,
		Passive:    address == "",
		Mode:       libcluster.ModeCooperative,
		Partitions: 64,
		Registry:   registry,
	})
}

// serve serves until ctx ends. Then requests that are under way have 5 s.
func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{Handler: h}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = server.Shutdown(last)
	})
	err := server.Serve(l)
	if stop() {
		return err
	}
	<-ended
	return nil
}
