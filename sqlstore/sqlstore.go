// Package sqlstore keeps clusters in a SQL database that an application has anyway:
// PostgreSQL, MariaDB, MySQL, or SQLite. It needs only database/sql. The driver is the
// application's choice.
//
//	db, err := sql.Open("pgx", url)
//	…
//	cluster, err := libcluster.New(libcluster.Config{
//		Key:      "mailer",
//		Registry: libcluster.OnStore(sqlstore.Postgres(db)),
//	})
//
// Every mode works, ModeExclusive too. A [Store] is a store as package kv
// describes them.
//
// # What it needs
//
// The tables are made on first use; [Store.Script] has them for an administrator. PostgreSQL finds them by
// the search_path of each connection: name the schema in [Store.Prefix] if that may change, since other
// tables are another cluster. All
// must use the same server, which must be one that writes: what a replica holds is old. A
// server that has become read-only is noticed by the next call, and the connection to it
// is given up, so that the one after it may find another server.
//
// A failover to a replica that lagged behind has the store go back in time, as a restored
// backup does. In PostgreSQL a replica that was promoted, or a backup that was restored
// up to a point of the log, is another store: all instances are fenced with
// libcluster.ErrRegistryReset, and rejoin. So they are after a failover that has lost
// nothing. Elsewhere, and after the restore of a dump, give the store another name:
//
//	UPDATE libcluster_store SET id = 'restored-2026-11-27'
//
// A commit must outlast a crash of the server, which else goes back in time, too. In MariaDB and MySQL
// that is innodb_flush_log_at_trx_commit=1, the default. In PostgreSQL each transaction asks for it,
// whatever synchronous_commit is, but fsync must be on. Else instances are fenced when they find that the
// server has gone back, but one that looks only when others have come as far again does not find it.
//
// In SQLite all are processes of one machine, on a local file system, and the file should
// be in WAL mode. The file must have one name: one with a hard link, or that is mounted in a container
// without its folder, is refused. Before the file is removed, replaced or copied over, end all of them. A process that has
// it open would go on with the old one, so its instances are fenced, and stay so until it
// is started again. A full disk stops heartbeats too, since to renew is to write more; when there is room again all
// come back. Under MariaDB and MySQL the driver's interpolateParams=true saves a round
// trip in each statement. MySQL's binary log must not be in the format STATEMENT. Connections must have
// autocommit=1 and completion_type=NO_CHAIN, the defaults, and another isolation than READ-UNCOMMITTED.
//
// # Connections
//
// Each opened space keeps one connection of the pool for itself from its first Begin or
// Renew on. Heartbeats go on while the application has all others in use; changes are
// then seen late. If nothing comes by that connection for a tenth of the TTL, as when a line has died of which nobody
// tells, heartbeats go by another one, and a watch is opened anew that has waited for three tenths. All calls but Renew and Get need a second connection for as long as they
// last, and an instance that rejoins opens its space once more before it closes the first. So a
// pool that is limited by [sql.DB.SetMaxOpenConns] must permit two connections more than the
// application is in clusters; Open refuses otherwise. A process with several clusters should also permit more idle ones, by [sql.DB.SetMaxIdleConns]: by default a pool keeps two.
//
// A [Store.Wake] has one connection more for each Store, which is not of the pool.
//
// An application that closes the pool ends its heartbeats. It should leave its clusters first.
//
// # Behind a pooler or a proxy
//
// In PgBouncer's session mode each connection of a pool has one of PgBouncer's for itself, also when it is
// idle, and so has a [Store.Wake]: its default_pool_size must permit them all, or nobody joins any more. In
// transaction mode fewer do, but the driver must send each statement as a whole and prepare none: give pgx
// default_query_exec_mode=exec, or pq binary_parameters=yes. With another way, such as pgx's describe_exec,
// a connection may execute what another client has prepared. A Wake hears nothing there. In statement mode
// nothing can be committed.
//
// A proxy that leads to another server must end the connections to the one before, as HAProxy does with
// on-marked-down shutdown-sessions. If that one still writes, an instance with connections to it goes on there,
// beside those at the other one.
//
// # Leases
//
// Leases live by the clock of the database. A lease whose time has passed ends when any
// user of the space writes, reads, or looks for changes; until then it can be renewed. A
// clock that is set forward by more than a lease has left ends the lease.
//
// # What it costs
//
// At rest each instance writes one UPDATE of one row a heartbeat, which is an eighth to a
// sixth of its TTL, and reads its record. Each watch is a short SELECT every [Store.Poll]:
// an instance has one, and one that coordinates has two. With a [Store.Wake] it is one in
// every fifth Poll, and when a lease is due to end. Then each commit also sends a
// notification, and those of all databases of a PostgreSQL go one after another; on a busy
// server with dozens of clusters it is better to look.
//
// # What is not mended
//
// A process that is stopped in the middle of a commit, such as by SIGSTOP, holds up all
// others that write to the space. PostgreSQL and MariaDB end its transaction after ten
// seconds. MySQL and SQLite wait until the process goes on or ends.
package sqlstore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libcluster/libcluster/internal/calls"
	"github.com/libcluster/libcluster/kv"
)

// DefaultPoll is the default of Store.Poll.
const DefaultPoll = 200 * time.Millisecond

// defaultPrefix is the default of Store.Prefix.
const defaultPrefix = "libcluster_"

// keep is for how many revisions the changes are kept. A watch that is further behind
// gets kv.ErrMissed.
const keep = 4096

// Store is a database as a kv.Store. Any goroutine may use it. Its fields must not be
// changed after the first call.
type Store struct {
	// Poll is how often each watch looks for changes, and the time by which the end of a
	// lease may be seen late. Changes of the same Store are seen at once. The default is
	// DefaultPoll. Each look is one short query.
	Poll time.Duration
	// Prefix is what the names of all tables begin with: letters, digits and '_'. The
	// default is "libcluster_". PostgreSQL and MySQL permit a schema in front: "ops.lc_".
	Prefix string
	// Wake has the commits of other processes be seen at once, under PostgreSQL: package
	// pgnotify has one. It is called in a goroutine of its own when a space is opened and
	// none was, and listens until ctx ends, which it does when no space is open. While it
	// hears all, watches look only every fifth Poll, and when a lease is due to end. What is
	// not heard is seen that late, and nothing rests on it. Only a Store with a Wake tells
	// of its commits, so all users of a store should have one. The default is none.
	Wake func(ctx context.Context, l Listening)

	db   *sql.DB
	lang *dialect
	keep int64
	file atomic.Pointer[file] // nil: none is known

	mu      sync.Mutex
	open    int                               // how many spaces are open
	names   map[string]int                    // and how many of each name
	watches map[string]map[chan struct{}]bool // by the payload that tells of their space
	deafen  context.CancelFunc                // ends Wake; nil: it does not run
	hears   bool                              // it hears all
}

func newStore(db *sql.DB, lang *dialect) *Store {
	return &Store{db: db, lang: lang, keep: keep, names: map[string]int{}, watches: map[string]map[chan struct{}]bool{}}
}

var _ kv.Lister = (*Store)(nil)

// Script returns the statements that make the tables. A user that may create tables has no need
// of it: Open makes those that are missing. All users of the store need the permissions
// to select, insert, update and delete in all of them.
func (s *Store) Script() string {
	var b strings.Builder
	b.WriteString("-- The tables of libcluster. They are made on first use by a user that may do so.\n" +
		"-- Names and values are bytes; times are microseconds since 1970.\n")
	for _, statement := range tables {
		b.WriteString(s.expand(statement) + ";\n")
	}
	return b.String()
}

// Open opens a space, and makes the tables if there are none. The error wraps
// kv.ErrRefused if the name is not one, if the pool has too few connections, or if
// the database will not have it.
func (s *Store) Open(ctx context.Context, name string) (kv.Space, error) {
	if err := s.check(name); err != nil {
		return nil, fmt.Errorf("opening a space: %w: %w", kv.ErrRefused, err)
	}
	if limit, enough := s.register(name); !enough {
		return nil, fmt.Errorf("opening a space: %w: the pool permits %d connections, "+
			"and must permit two more than the application is in clusters", kv.ErrRefused, limit)
	}
	sp := newSpace(s, name)
	_, err := calls.Do(ctx, sp.life, "opening a space", func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.prepare(ctx, name)
	})
	if err != nil {
		_ = sp.Close() // never fails
		return nil, err
	}
	return sp, nil
}

// Spaces returns the names of the spaces that have leases. It makes no tables.
func (s *Store) Spaces(ctx context.Context) ([]string, error) {
	return calls.Do(ctx, context.Background(), "listing spaces", func(ctx context.Context) (names []string, err error) {
		err = s.again(ctx, func() error {
			names = nil
			return s.onPool(ctx, func(ctx context.Context, c session) error {
				return c.query(ctx, `SELECT DISTINCT space FROM {lease} {all}`, nil, func(rows *sql.Rows) error {
					var name []byte
					err := rows.Scan(&name)
					names = append(names, string(name))
					return err
				})
			})
		})
		if err != nil && s.lang.missing(err) {
			return nil, nil
		}
		return names, err
	})
}

// register counts a space that is opened, if the pool has enough connections: one for each
// space and one for calls. A space that is not open yet leaves another one, since who rejoins
// opens the space a second time before the first is closed.
func (s *Store) register(name string) (limit int, enough bool) {
	limit = s.db.Stats().MaxOpenConnections
	s.mu.Lock()
	defer s.mu.Unlock()
	need := s.open + 2
	if s.names[name] == 0 {
		need++
	}
	if limit > 0 && need > limit {
		return limit, false
	}
	if s.open++; s.open == 1 {
		s.startListening()
	}
	s.names[name]++
	return limit, true
}

// unregister is for a space that is closed.
func (s *Store) unregister(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open--; s.open == 0 {
		s.stopListening()
	}
	if s.names[name]--; s.names[name] == 0 {
		delete(s.names, name)
	}
}

// check returns why Open cannot open a space.
func (s *Store) check(name string) error {
	if err := calls.CheckSpace(name); err != nil {
		return err
	}
	for _, r := range s.Prefix {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.", r) {
			return errors.New("Prefix has other characters than letters, digits, '_' and '.'")
		}
	}
	if s.Wake != nil && s.lang.notify == "" {
		return errors.New("Wake is for PostgreSQL: this database tells of nothing")
	}
	return nil
}

// prepare makes the tables, the name of the store and the space, as far as there are none.
func (s *Store) prepare(ctx context.Context, space string) error {
	conflicts := 0
	return s.again(ctx, func() error {
		return s.onPool(ctx, func(ctx context.Context, c session) error {
			if err := c.fit(ctx); err != nil {
				return err
			}
			if err := s.findFile(ctx, c); err != nil { // before anything is written
				return err
			}
			id, err := s.enter(ctx, c, space)
			if err == nil || !s.lang.missing(err) {
				return err
			}
			for _, statement := range tables {
				if _, err := c.exec(ctx, statement); err != nil {
					// Of two that make a table at once, PostgreSQL tells one that it exists.
					if s.lang.exists(err) && conflicts < 2*len(tables) {
						conflicts++
						return errAgain
					}
					if s.lang.refuses(err) {
						return s.lang.refusal(fmt.Errorf("making the tables: %w; permit this user to, or have an administrator make them: "+
							"'libcluster tables', as Store.Script, prints the statements", err))
					}
					return err
				}
			}
			if id != "" {
				if err := c.rename(ctx, id); err != nil {
					return err
				}
			}
			_, err = s.enter(ctx, c, space)
			return err
		})
	})
}

// fit returns an error if the application, or the server, has set up connections that will not do.
func (c session) fit(ctx context.Context) error {
	if c.store.lang.unfit == "" {
		return nil
	}
	var setting sql.NullString
	err := c.query(ctx, c.store.lang.unfit, nil, func(rows *sql.Rows) error { return rows.Scan(&setting) })
	if err == nil && setting.Valid {
		err = fmt.Errorf("%w: the connections of the pool have %s: set it to the default, in what the driver is given or in the server",
			kv.ErrRefused, setting.String)
	}
	return err
}

// rename gives a store that has lost a table another name: it is another store. Only the first
// process to notice does so: id, the old name, is not there for any later process.
func (c session) rename(ctx context.Context, id string) error {
	// Without its lease a record would stay for ever.
	_, err := c.exec(ctx, `DELETE FROM {record} WHERE owner <> 0 AND owner NOT IN (SELECT owner FROM {lease})`)
	if err == nil {
		_, err = c.exec(ctx, `UPDATE {store} SET id = ? WHERE id = ?`, newID(), id)
	}
	return err
}

// enter has a row for the store and one for the space, and returns the name of the store. If a
// table is missing, the name is that from before this was noticed. Revisions begin with 1: to watch
// after revision 0 means another thing. If the row of a space is lost they go on from its changes.
func (s *Store) enter(ctx context.Context, c session, space string) (id string, err error) {
	err = c.query(ctx, `SELECT id FROM {store}`, nil, func(rows *sql.Rows) error { return rows.Scan(&id) })
	if err != nil {
		return id, err
	}
	nothing := func(*sql.Rows) error { return nil }
	if err := c.query(ctx, `SELECT 1 FROM {record}, {lease}, {change} WHERE 1 = 0`, nil, nothing); err != nil {
		return id, err
	}
	if id == "" {
		_, err := c.exec(ctx, `INSERT {ignore} INTO {store} (one, id) VALUES (1, ?) {unless}`, newID())
		if err != nil {
			return id, err
		}
	}
	there := false
	err = c.query(ctx, `SELECT 1 FROM {space} WHERE name = ?`, []any{[]byte(space)}, func(*sql.Rows) error {
		there = true
		return nil
	})
	if err == nil && !there {
		_, err = c.exec(ctx, `INSERT {ignore} INTO {space} (name, revision, pruned)
SELECT ?, COALESCE(MAX(revision), 1), COALESCE(MAX(revision), 0) FROM {change} WHERE space = ? {unless}`, []byte(space), []byte(space))
	}
	return id, err
}

// newID returns a random UUID.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func (s *Store) poll() time.Duration {
	if s.Poll > 0 {
		return s.Poll
	}
	return DefaultPoll
}
