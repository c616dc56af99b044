package dirstore_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/dirstore"
)

func Example() {
	dir, err := os.MkdirTemp("", "cluster") // where all processes have the same
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	cluster, err := libcluster.New(libcluster.Config{
		Key:      "mailer",
		Workers:  4,
		Mode:     libcluster.ModeExclusive,
		Registry: libcluster.OnStore(dirstore.Dir(dir)),
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	err = cluster.Run(ctx, func(_ context.Context, s libcluster.State) error {
		fmt.Printf("workers %d to %d of %d are mine\n", s.Index, s.Index+s.Workers-1, s.Total)
		stop()
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output: workers 0 to 3 of 4 are mine
}
