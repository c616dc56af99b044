// Command cron runs a job every minute, on one of all the machines that it is started on.
//
//	go run ./examples/cron -id a    # and in another terminal with -id b
//
// It needs an etcd on port 2379. The instances hold a single partition between them, and the
// instance that holds it is the primary. In mode cooperative there are never two, and an instance that joins
// or leaves does not stop the job of another one.
//
// When the primary leaves, another instance goes on at once; when it crashes, within some 18 s.
// What was due meanwhile is left out. A job that must not be left out writes down when it ran, and
// if it must not run twice either, it does so under [libcluster.Cluster.EtcdPartitionFence].
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/libcluster/libcluster"
)

func main() {
	name, _ := os.Hostname() // without one, New gives the instance an ID
	etcd := flag.String("etcd", "http://127.0.0.1:2379", "the etcd's URL")
	id := flag.String("id", name, "this instance's ID, which no other has")
	every := flag.Duration("every", time.Minute, "how often the job runs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, libcluster.Etcd(*etcd), *id, *every); err != nil {
		log.Fatal(err)
	}
}

// run is one instance. It runs the job while it is the primary, until ctx ends.
func run(ctx context.Context, out io.Writer, registry libcluster.Registry, id string, every time.Duration) error {
	cluster, err := libcluster.New(libcluster.Config{
		Key:        "cron",
		ID:         id,
		Mode:       libcluster.ModeCooperative,
		Partitions: 1,
		Registry:   registry,
	})
	if err != nil {
		return err
	}
	return cluster.RunPrimary(ctx, func(ctx context.Context, _ libcluster.State) error {
		for last := time.Now(); ; {
			due := last.Truncate(every).Add(every)
			select {
			case <-time.After(time.Until(due)):
				job(ctx, out, id, due)
				if last = time.Now(); last.Before(due) { // timers go by another clock
					last = due
				}
			case <-ctx.Done():
				return nil // nobody else becomes the primary before this
			}
		}
	})
}

// job stands for what is to be done. It should soon end when ctx does.
func job(_ context.Context, out io.Writer, id string, due time.Time) {
	fmt.Fprintf(out, "%s runs what is due at %s\n", id, due.UTC().Format("2006-01-02T15:04:05.000Z"))
}
