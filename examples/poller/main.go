// Command poller polls 10,000 accounts, each by one of several instances, and counts the
// accounts that it stops polling although they stay where they are.
//
//	go run ./examples/poller
//	go run ./examples/poller -mode exclusive
//
// It needs no server: the instances find one another in an SQLite file. They are in one process
// here, so that one count has them all. In earnest each is a process of its own, on a
// registry that all machines reach, and nothing else is different.
//
// In both modes no account is polled by two at once. In mode exclusive all instances stop at each
// change, and begin again. In mode cooperative an instance stops the accounts that it gives
// away, and the others go on.
package main

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"

	_ "modernc.org/sqlite"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/sqlstore"
)

func main() {
	mode := libcluster.ModeCooperative
	flag.TextVar(&mode, "mode", mode, "cooperative or exclusive")
	pollers := flag.Int("pollers", 3, "how many instances join, one after another")
	accounts := flag.Int("accounts", 10000, "how many accounts there are")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if _, err := run(ctx, os.Stdout, mode, *pollers, *accounts); err != nil {
		log.Fatal(err)
	}
}

// run has pollers join one after another, and tells what became of the accounts at each join.
// It returns how many were stopped in vain at the last one.
func run(ctx context.Context, out io.Writer, mode libcluster.Mode, pollers, accounts int) (inVain int, err error) {
	folder, err := os.MkdirTemp("", "poller")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(folder)
	db, err := sql.Open("sqlite", "file:"+filepath.Join(folder, "cluster.db")+"?_pragma=journal_mode(WAL)")
	if err != nil {
		return 0, err
	}
	defer db.Close()
	ctx, leave := context.WithCancelCause(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer leave(nil)

	all := newTally(accounts)
	for n := range pollers {
		p := &poller{id: fmt.Sprintf("poller%d", n+1), tally: all}
		all.reset()
		running.Go(func() {
			if err := p.run(ctx, mode, libcluster.OnStore(sqlstore.SQLite(db))); err != nil {
				leave(err)
			}
		})
		if err := all.await(ctx, n+1); err != nil {
			return 0, err
		}
		var moved int
		moved, inVain = all.counts()
		fmt.Fprintf(out, "%s has joined in mode %v: %d accounts have moved to it; of the other %d, %d were stopped and begun again\n",
			p.id, mode, moved, accounts-moved, inVain)
	}
	return inVain, nil
}
