package sqlstore_test

import (
	"context"
	"database/sql"
	"log"
	"os/signal"
	"syscall"

	_ "modernc.org/sqlite"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/sqlstore"
)

// Processes of one machine, with a file. For PostgreSQL open a "pgx" database instead, and take
// sqlstore.Postgres; for MariaDB and MySQL take sqlstore.MySQL.
func Example() {
	db, err := sql.Open("sqlite", "file:/var/lib/mailer/cluster.db?_pragma=journal_mode(WAL)")
	if err != nil {
		log.Fatal(err)
	}
	cluster, err := libcluster.New(libcluster.Config{
		Key:      "mailer",
		Workers:  4,
		Mode:     libcluster.ModePlanned,
		Registry: libcluster.OnStore(sqlstore.SQLite(db)),
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err = cluster.Run(ctx, func(ctx context.Context, s libcluster.State) error {
		log.Printf("workers %d to %d of %d are mine", s.Index, s.Index+s.Workers-1, s.Total)
		<-ctx.Done() // instead of doing their work until then
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := db.Close(); err != nil { // the cluster has been left
		log.Fatal(err)
	}
}
