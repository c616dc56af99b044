package libcluster_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"runtime"
	"slices"
	"sync"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

// A function that is stopped and run again as others come and go.
func ExampleCluster_Run() {
	registry := libclustertest.New() // in place of an etcd
	cluster, err := libcluster.New(libcluster.Config{Key: "mailer", ID: "a", Workers: 2, Registry: registry})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancelCause(context.Background())
	err = cluster.Run(ctx, func(ctx context.Context, s libcluster.State) error {
		fmt.Printf("workers %d to %d of %d\n", s.Index, s.Index+s.Workers-1, s.Total)
		if s.Total == 2 {
			registry.Put("mailer/production", "b", []byte("3")) // another instance comes
		} else {
			stop(errors.New("that is enough")) // as signal.NotifyContext does
		}
		<-ctx.Done()
		fmt.Println(context.Cause(ctx))
		return nil
	})
	fmt.Println("error:", err)
	// Output:
	// workers 0 to 1 of 2
	// libcluster: the cluster has re-balanced
	// workers 0 to 1 of 5
	// that is enough
	// error: <nil>
}

// A batch job of two instances with two workers each, of which this is the second.
// It returns when its workers have finished.
func ExampleCluster_RunWorkers() {
	cluster, err := libcluster.New(libcluster.Config{
		Key:      "nightly",
		Workers:  2,
		Registry: libcluster.Static(2, 4),
	})
	if err != nil {
		log.Fatal(err)
	}
	var (
		mu   sync.Mutex
		done []string
	)
	err = cluster.RunWorkers(context.Background(), func(_ context.Context, worker int, s libcluster.State) error {
		for row := worker; row < 10; row += s.Total {
			mu.Lock()
			done = append(done, fmt.Sprintf("row %d by worker %d", row, worker))
			mu.Unlock()
		}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	slices.Sort(done) // the workers run at the same time
	for _, line := range done {
		fmt.Println(line)
	}
	// Output:
	// row 2 by worker 2
	// row 3 by worker 3
	// row 6 by worker 2
	// row 7 by worker 3
}

// Leader election: of two instances one leads, and when it has done its part it is
// the other's turn.
func ExampleCluster_RunPrimary() {
	registry := libclustertest.New() // in place of an etcd
	instance := func(id string, lead func()) {
		cluster, err := libcluster.New(libcluster.Config{
			Key:      "mailer",
			ID:       id,                     // or the host's name
			Mode:     libcluster.ModePlanned, // the primary stays when others come
			Registry: registry,
		})
		if err != nil {
			log.Fatal(err)
		}
		err = cluster.RunPrimary(context.Background(), func(context.Context, libcluster.State) error {
			fmt.Println(id, "leads")
			lead()
			return nil // or go on until the context ends
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	var other sync.WaitGroup
	instance("a", func() {
		other.Go(func() { instance("b", func() {}) }) // which is the second, and waits
		for len(registry.Members("mailer/production")) < 2 {
			runtime.Gosched()
		}
	})
	other.Wait()
	// Output:
	// a leads
	// b leads
}
