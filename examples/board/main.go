// Command board keeps key-values of several instances, and each of them shows those of all. There is
// no server beside them: they gossip.
//
//	go run ./examples/board -id a -bind 127.0.0.1:7946 -http 127.0.0.1:8081
//	go run ./examples/board -id b -bind 127.0.0.1:7947 -http 127.0.0.1:8082 -seeds 127.0.0.1:7946
//	curl -X PUT -d 7 http://127.0.0.1:8081/load
//	curl http://127.0.0.1:8082/
//
// The last line prints {"a":{"load":"7"},"b":{}}. What an instance has said is gone when it leaves.
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/gossip"
)

func main() {
	id := flag.String("id", "", "`ID` of this instance")
	bind := flag.String("bind", "127.0.0.1:7946", "`HOST:PORT` at which the others reach it")
	seeds := flag.String("seeds", "", "`HOST:PORT,…` of others, any of which is enough")
	site := flag.String("http", "127.0.0.1:8081", "`HOST:PORT` of its HTTP server")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	registry := gossip.Config{Bind: *bind}
	if *seeds != "" {
		registry.Seeds = strings.Split(*seeds, ",")
	}
	listener, err := net.Listen("tcp", *site)
	if err == nil {
		err = run(ctx, *id, registry, listener)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// run is an instance until ctx ends.
func run(ctx context.Context, id string, registry gossip.Config, listener net.Listener) error {
	defer listener.Close()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	cluster, err := libcluster.New(libcluster.Config{
		Key: "board", ID: id, Registry: registry,
		OnExit: end, // another instance has its ID
	})
	if err != nil {
		return err
	}
	if err := cluster.Join(ctx); err != nil {
		return err
	}
	server := &http.Server{Handler: newBoard(cluster)}
	context.AfterFunc(ctx, func() { _ = server.Close() }) // an error is Serve's too
	err = server.Serve(listener)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
		if errors.Is(err, context.Canceled) { // it was told to end
			err = nil
		}
	}
	return errors.Join(err, cluster.Leave(context.Background()))
}
