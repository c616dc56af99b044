package libcluster_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

// The program of the README.
func Example() {
	name, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	cluster, err := libcluster.New(libcluster.Config{
		Key:        "mailer",
		ID:         name, // unique to this instance, and the same after a restart
		Mode:       libcluster.ModeCooperative,
		Partitions: 64, // of the work, the same number for ever
		Registry:   libcluster.Etcd("http://127.0.0.1:2379"),
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the first signal has it leave, another one ends it at once
	err = cluster.RunPartitions(ctx, func(ctx context.Context, p libcluster.Partition) error {
		log.Printf("partition %d of %d is mine", p.Number, p.Of) // and p.Owns(key) says which keys are
		<-ctx.Done()                                             // instead of doing its work until then
		log.Printf("partition %d is not any more: %v", p.Number, context.Cause(ctx))
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
}

// A write for a partition that has moved is refused, however late it comes. In a database
// that the cluster is in, Guard of package sqlstore does what Stands does here.
func ExampleCluster_PartitionFence() {
	registry := libclustertest.New() // in an application: a sqlstore
	join := func(id string) *libcluster.Cluster {
		c, err := libcluster.New(libcluster.Config{
			Key: "bank", ID: id, Mode: libcluster.ModeCooperative, Partitions: 2, Registry: registry,
		})
		if err != nil {
			log.Fatal(err)
		}
		if err := c.Join(context.Background()); err != nil {
			log.Fatal(err)
		}
		return c
	}
	a := join("a")
	defer a.Leave(context.Background())
	partition, _ := a.State().Partition(1)
	fence, err := a.PartitionFence(partition)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("a writes:", registry.Stands(fence))

	b := join("b")
	defer b.Leave(context.Background())
	its, _ := b.State().Partition(1)
	fmt.Println("a writes late:", registry.Stands(fence))
	fmt.Println("b's token is greater:", its.Token > partition.Token)
	// Output:
	// a writes: true
	// a writes late: false
	// b's token is greater: true
}

// A batch job whose instances are started with their places.
func ExampleStatic() {
	cluster, err := libcluster.New(libcluster.Config{
		Key:      "nightly",
		Workers:  2,
		Registry: libcluster.Static(4, 8),
		OnRebalance: func(s libcluster.State) {
			fmt.Println("index", s.Index, "workers", s.Workers, "total", s.Total)
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := cluster.Join(context.Background()); err != nil {
		log.Fatal(err)
	}
	mine := cluster.State()
	for row := range 16 {
		if worker := row % mine.Total; worker >= mine.Index && worker < mine.Index+mine.Workers {
			fmt.Println("row", row, "is for my worker", worker-mine.Index)
		}
	}
	if err := cluster.Leave(context.Background()); err != nil {
		log.Fatal(err)
	}
	// Output:
	// index 4 workers 2 total 8
	// row 4 is for my worker 0
	// row 5 is for my worker 1
	// row 12 is for my worker 0
	// row 13 is for my worker 1
	// index -1 workers 2 total 6
}

// A batch job whose place comes from its scheduler.
func ExampleStaticFromEnv() {
	os.Setenv("CLOUD_RUN_TASK_INDEX", "2")
	os.Setenv("CLOUD_RUN_TASK_COUNT", "5")
	defer os.Unsetenv("CLOUD_RUN_TASK_INDEX")
	defer os.Unsetenv("CLOUD_RUN_TASK_COUNT")

	registry, err := libcluster.StaticFromEnv(0)
	if err != nil {
		log.Fatal(err)
	}
	cluster, err := libcluster.New(libcluster.Config{Key: "nightly", Workers: 4, Registry: registry})
	if err != nil {
		log.Fatal(err)
	}
	if err := cluster.Join(context.Background()); err != nil {
		log.Fatal(err)
	}
	s := cluster.State()
	fmt.Println("index", s.Index, "of", s.Total)
	if err := cluster.Leave(context.Background()); err != nil {
		log.Fatal(err)
	}
	// Output: index 8 of 20
}
