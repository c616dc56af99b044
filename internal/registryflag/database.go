package registryflag

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // the driver of sqlite:FILE

	"github.com/libcluster/libcluster/sqlstore"
	"github.com/libcluster/libcluster/sqlstore/pgnotify"
)

// named is a store that says where it is.
type named struct {
	*sqlstore.Store
	where string
}

func (s named) String() string { return s.where }

// databases are the servers that a registry may be in, by the scheme of the URI. What open
// is given may hold a password, and so its errors say nothing of that.
var databases = map[string]struct {
	name string
	open func(u *url.URL) (*sql.DB, *sqlstore.Store, error)
}{
	"postgres":   {"PostgreSQL", openPostgres},
	"postgresql": {"PostgreSQL", openPostgres},
	"mysql":      {"MySQL", openMySQL},
}

// databaseScheme returns the scheme of a URI if it is one of a database server.
func databaseScheme(uri string) (scheme string, is bool) {
	scheme, _, _ = strings.Cut(uri, "://")
	scheme = strings.ToLower(scheme)
	_, is = databases[scheme]
	return scheme, is
}

// openDatabase has the registry in a database server.
func (f *Flags) openDatabase(ctx context.Context, scheme string, use Use) (*Registry, error) {
	registry := f.Label("registry")
	must := fmt.Sprintf("must be %s://USER:PASSWORD@HOST[:PORT]/DB, or without USER:PASSWORD and with --user", scheme)
	u, err := url.Parse(f.uri)
	if err != nil || u.Hostname() == "" || len(u.Path) < 2 || u.Fragment != "" {
		return nil, fmt.Errorf("%s: %s", registry, must) // it may hold a password
	}
	if f.Given("user") {
		if u.User != nil {
			return nil, fmt.Errorf("%s: the URI holds a user, and --user is given; give one of both", registry)
		}
		user, password, err := f.credentials(ctx)
		if err != nil {
			return nil, err
		}
		u.User = url.UserPassword(user, password)
	}
	db, store, err := databases[scheme].open(u)
	if err != nil {
		return nil, fmt.Errorf("%s: is not understood: %w; %s", registry, err, must)
	}
	db.SetMaxIdleConns(2 + 2*use.Instances) // heartbeats have one each
	where := fmt.Sprintf("%s at %s%s", databases[scheme].name, u.Host, u.Path)
	r := f.onStore(named{store, where})
	r.Tables, r.closer = store.Script(), db
	return r, nil
}

func openPostgres(u *url.URL) (*sql.DB, *sqlstore.Store, error) {
	config, err := pgx.ParseConfig(u.String())
	if err != nil {
		return nil, nil, errors.New("pgx finds a mistake in its host, port or options")
	}
	db := stdlib.OpenDB(*config)
	store := sqlstore.Postgres(db)
	store.Wake = pgnotify.Listener{Config: config}.Listen
	return db, store, nil
}

func openMySQL(u *url.URL) (*sql.DB, *sqlstore.Store, error) {
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), "3306")
	}
	config, err := mysql.ParseDSN(fmt.Sprintf("tcp(%s)/%s?%s", u.Host, url.PathEscape(u.Path[1:]), u.RawQuery))
	if err != nil {
		return nil, nil, errors.New("the driver finds a mistake in its host, port or options")
	}
	config.User = u.User.Username()
	config.Passwd, _ = u.User.Password()
	config.InterpolateParams = true // saves a round trip in each statement
	config.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, nil, errors.New("the driver finds a mistake in its options")
	}
	db := sql.OpenDB(connector)
	return db, sqlstore.MySQL(db), nil
}
