// Command service is an application as it is deployed: it stops in order at SIGTERM, and tells
// probes whether it is alive and ready. See examples/kubernetes.
//
//	go run ./examples/service    # and http://127.0.0.1:7070 shows the cluster
//
// It needs an etcd on port 2379.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/httpapi"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// run works until ctx ends, and has left the cluster when it returns.
func run(ctx context.Context, args []string, out io.Writer) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	flags := flag.NewFlagSet("service", flag.ContinueOnError)
	etcd := flags.String("etcd", "http://127.0.0.1:2379", "the etcd's URLs, with commas between them")
	id := flags.String("id", name, "this instance's ID, which no other has")
	listen := flags.String("listen", "127.0.0.1:7070", "where probes and operators are answered; with more than loopback LIBCLUSTER_TOKEN is needed")
	returning := flags.Duration("returning", 0, "for how long the assignment is reserved for an instance with the same ID")
	if err := flags.Parse(args); err != nil {
		return err
	}

	cluster, err := libcluster.New(libcluster.Config{
		Key:        "mailer",
		ID:         *id,
		Mode:       libcluster.ModeCooperative,
		Partitions: 64,
		Registry:   libcluster.Etcd(strings.Split(*etcd, ",")...),
	})
	if err != nil {
		return err
	}
	var options []httpapi.Option
	if token := os.Getenv("LIBCLUSTER_TOKEN"); token != "" {
		options = append(options, httpapi.WithToken(libcluster.NewSecret(token)))
	}
	h, err := httpapi.New(cluster, options...)
	if err != nil {
		return err
	}
	defer h.Close()
	l, err := h.Listen(*listen)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s serves http://%s\n", *id, l.Addr())

	tasks, ctx := errgroup.WithContext(ctx)
	tasks.Go(func() error { return h.Serve(ctx, l) })
	tasks.Go(func() error {
		return cluster.RunPartitions(ctx, work, libcluster.Returning(*returning))
	})
	return tasks.Wait()
}

// work stands for the work of one partition. When it has returned another instance may begin it.
func work(ctx context.Context, _ libcluster.Partition) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C: // and a part of the work, which has to be short
		case <-ctx.Done():
			return nil
		}
	}
}
