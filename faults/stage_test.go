//go:build linux && faults

package faults_test

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/dirstore"
	"github.com/libcluster/libcluster/internal/testsql"
	"github.com/libcluster/libcluster/sqlstore"
	"github.com/libcluster/libcluster/sqlstore/pgnotify"
)

// stage is a registry that actors act by.
type stage struct {
	scheme string   // what playActor opens
	hosts  []string // of its servers, to each of which an actor has a line of its own; none: it is a file
	// house tells an actor, the first of which is 0, where it runs, and how it reaches the registry;
	// nil: here, by lines.
	house func(a *actor, number int)
	// voters is how many actors, the first ones, are the registry's servers.
	voters int
	// strike has something happen to a server, for a while.
	strike func(x *troupe)
	// plans returns all plans that there have been; nil: nobody remembers them.
	plans func(t *testing.T) history
}

// stages are the registries on which actors suffer.
var stages = map[string]func(t *testing.T) stage{
	"etcd":     etcdStage,
	"Postgres": postgresStage,
	"SQLite":   func(*testing.T) stage { return stage{scheme: "sqlite"} },
	"Folder":   func(*testing.T) stage { return stage{scheme: "dir"} },
	"Peers":    peersStage,
}

func etcdStage(t *testing.T) stage {
	etcd := startIsland(t)
	by := stage{
		scheme: "http",
		strike: func(x *troupe) { x.strikeEtcd(etcd) },
		plans:  func(t *testing.T) history { return plansIn(t, dial(t, etcd.urls()...)) },
	}
	for _, s := range etcd.all {
		by.hosts = append(by.hosts, s.client)
	}
	return by
}

// strikeEtcd has something happen to the leader.
func (x *troupe) strikeEtcd(etcd *island) {
	leader, _ := etcd.leader()
	length := time.Second/2 + rand.N(5*time.Second)
	switch rand.N(3) {
	case 0:
		x.note(leader.name, "the leader of etcd killed", length)
		leader.kill()
		x.blight(length, func() { etcd.start(leader) })
	case 1:
		x.note(leader.name, "the leader of etcd frozen", length)
		leader.freeze()
		x.blight(length, leader.thaw)
	case 2:
		x.note(leader.name, "the leader of etcd cut off from the others", length)
		etcd.isolate(leader)
		x.blight(length, func() { etcd.rejoin(leader) })
	}
}

func postgresStage(t *testing.T) stage {
	server := testsql.OwnPostgres(t)
	admin := testsql.Open(t, "pgx", server.URL())
	admin.SetMaxIdleConns(0) // what it has kept ends with the server
	return stage{scheme: "postgres", hosts: []string{server.Address()}, strike: func(x *troupe) {
		if rand.N(2) == 0 {
			length := rand.N(5 * time.Second)
			x.note("PostgreSQL", "PostgreSQL killed", length)
			server.Kill()
			x.blight(length, server.Start)
			return
		}
		x.note("PostgreSQL", "all backends of PostgreSQL terminated", 0)
		_, err := admin.Exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()`)
		require.NoError(t, err)
	}}
}

// registryOf opens the registry of a part.
func registryOf(p part) (libcluster.Registry, func(), error) {
	none := func() {}
	switch p.Registry {
	case "postgres":
		u, err := url.Parse(p.URLs[0])
		if err != nil {
			return nil, none, err
		}
		config, err := pgx.ParseConfig(fmt.Sprintf("postgres://postgres@%s/postgres?sslmode=disable", u.Host))
		if err != nil {
			return nil, none, err
		}
		db := stdlib.OpenDB(*config)
		store := sqlstore.Postgres(db)
		store.Wake = pgnotify.Listener{Config: config}.Listen
		return libcluster.OnStore(store), func() { db.Close() }, nil
	case "sqlite":
		db, err := sql.Open("sqlite", "file:"+strings.TrimPrefix(p.URLs[0], "sqlite:")+"?_pragma=journal_mode(WAL)")
		if err != nil {
			return nil, none, err
		}
		return libcluster.OnStore(sqlstore.SQLite(db)), func() { db.Close() }, nil
	case "peers":
		return peersOf(p)
	case "dir":
		folder := strings.TrimPrefix(p.URLs[0], "dir:")
		if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, none, err
		}
		return libcluster.OnStore(dirstore.Dir(folder)), none, nil
	}
	return libcluster.Etcd(p.URLs...), none, nil
}
