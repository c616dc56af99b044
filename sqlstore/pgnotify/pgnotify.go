// Package pgnotify listens to PostgreSQL, so that the watches of a [sqlstore.Store] see what
// other processes commit at once. It is on pgx v5.
//
//	config, err := pgx.ParseConfig(url)
//	…
//	store := sqlstore.Postgres(stdlib.OpenDB(*config))
//	store.Wake = pgnotify.Listener{Config: config}.Listen
//
// A listener has a connection of its own, besides those of the pool, and a second one for a moment when it
// begins. What it hears is a
// hint to look. A notification that is lost costs time, [sqlstore.Store] says how much,
// and nothing else. A connection that has gone silent is noticed within ten seconds.
package pgnotify

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/libcluster/libcluster/sqlstore"
)

const (
	// answerWithin bounds connecting, and every request.
	answerWithin = 5 * time.Second
	// askEvery is how long a line may be silent until it is asked for a sign of life.
	askEvery   = 5 * time.Second
	firstPause = 50 * time.Millisecond
	lastPause  = 30 * time.Second
)

// Listener listens by a connection that it opens, and opens anew when it is lost.
type Listener struct {
	// Config, which pgx.ParseConfig makes, says where to connect. Behind PgBouncer in
	// transaction or statement mode nothing is heard, which the listener notices: have it connect to
	// PostgreSQL itself. In session mode it has a connection of PgBouncer's for itself.
	Config *pgx.ConnConfig
	// OnTrouble is called with why nothing is heard, after each attempt, in the goroutine that
	// listens. No error holds the password. Optional.
	OnTrouble func(error)
}

// Listen is what [sqlstore.Store.Wake] is to be set to. It returns when ctx has ended.
// A connection that cannot be opened, or is lost, is opened anew after a pause that grows
// from 50 ms to 30 s.
func (l Listener) Listen(ctx context.Context, to sqlstore.Listening) {
	pause := firstPause
	for ctx.Err() == nil {
		heard, err := l.listen(ctx, to)
		to.Hears(false)
		if ctx.Err() != nil {
			return
		}
		if l.OnTrouble != nil {
			l.OnTrouble(err)
		}
		if heard {
			pause = firstPause
		}
		wait := time.NewTimer(pause/2 + mathrand.N(pause))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
		}
		pause = min(2*pause, lastPause)
	}
}

// listen listens by one connection until that is lost. It reports whether all was heard for a
// while.
func (l Listener) listen(ctx context.Context, to sqlstore.Listening) (heard bool, err error) {
	conn, err := l.connect(ctx)
	if err != nil {
		return false, fmt.Errorf("connecting to listen: %w", err)
	}
	defer disconnect(ctx, conn)
	if err := l.prove(ctx, conn, to.Channel); err != nil {
		return false, fmt.Errorf("beginning to listen: %w", err)
	}
	to.Hears(true)
	for {
		n, err := await(ctx, conn, askEvery)
		switch {
		case err == nil && n.Channel == to.Channel:
			to.Heard(n.Payload)
		case err == nil: // a late proof
		case !errors.Is(err, context.DeadlineExceeded):
			return true, fmt.Errorf("listening: %w", err)
		default:
			if err := exec(ctx, conn, "SELECT 1"); err != nil {
				return true, fmt.Errorf("listening: no sign of life: %w", err)
			}
		}
	}
}

func (l Listener) connect(ctx context.Context) (*pgx.Conn, error) {
	if l.Config == nil {
		return nil, errors.New("Config is nil: give one of pgx.ParseConfig")
	}
	config := l.Config.Copy()
	config.OnNotification = nil // they are waited for
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	return pgx.ConnectConfig(ctx, config)
}

// disconnect closes a connection that is lost already, or that nobody needs.
func disconnect(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerWithin)
	defer cancel()
	_ = conn.Close(ctx)
}

// prove has the connection listen on the channel, and proves by a channel that nobody else
// knows that what another connection tells is heard. What a connection tells itself it also hears by
// a server's connection that is lent to it for that statement only.
func (l Listener) prove(ctx context.Context, conn *pgx.Conn, channel string) error {
	own := channel + "_" + rand.Text()
	for _, name := range []string{channel, own} {
		if err := exec(ctx, conn, "LISTEN "+pgx.Identifier{name}.Sanitize()); err != nil {
			return err
		}
	}
	if err := l.tell(ctx, own); err != nil {
		return err
	}
	for {
		n, err := await(ctx, conn, answerWithin)
		if err != nil {
			// Else a connection of PgBouncer's would go on listening for nobody.
			_ = exec(ctx, conn, "UNLISTEN *")
			return fmt.Errorf("a notification does not come, as behind PgBouncer in transaction mode: %w", err)
		}
		if n.Channel == own {
			return exec(ctx, conn, "UNLISTEN "+pgx.Identifier{own}.Sanitize())
		}
	}
}

// tell notifies a channel by another connection.
func (l Listener) tell(ctx context.Context, channel string) error {
	conn, err := l.connect(ctx)
	if err != nil {
		return err
	}
	defer disconnect(ctx, conn)
	return exec(ctx, conn, "NOTIFY "+pgx.Identifier{channel}.Sanitize())
}

func await(ctx context.Context, conn *pgx.Conn, within time.Duration) (*pgconn.Notification, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return conn.WaitForNotification(ctx)
}

// exec executes a statement as it is: nothing is prepared.
func exec(ctx context.Context, conn *pgx.Conn, statement string) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	_, err := conn.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol)
	return err
}
