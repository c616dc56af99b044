package gossip_test

import (
	"context"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/gossip"
)

// All instances have the same configuration: those whose address is in the list of seeds listen there,
// and all others at a free port. Each tells the others how busy it is.
func Example() {
	cluster, err := libcluster.New(libcluster.Config{
		Key:     "mailer",
		Workers: 4,
		Registry: gossip.Config{
			Seeds:  []string{"10.0.0.5:7946", "10.0.0.6:7946"},
			Secret: []libcluster.Secret{libcluster.NewSecret(os.Getenv("GOSSIP_SECRET"))},
			Expect: 3, // one that is cut off from the other two does not act
		},
		OnMembers: func(change libcluster.MembersChange) {
			for _, c := range change.Changed {
				log.Printf("%s has a load of %s", c.After.ID, c.After.Metadata["load"])
			}
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err = cluster.Run(ctx, func(ctx context.Context, s libcluster.State) error {
		log.Printf("workers %d to %d of %d are mine", s.Index, s.Index+s.Workers-1, s.Total)
		for {
			select {
			case <-time.After(time.Second): // instead of doing their work until then
			case <-ctx.Done():
				return nil
			}
			if err := cluster.SetMetadata(ctx, map[string]string{"load": "7"}); err != nil {
				log.Print(err) // it is published later
			}
		}
	})
	if err != nil {
		log.Fatal(err)
	}
}
