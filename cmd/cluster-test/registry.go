package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/dirstore"
	"github.com/libcluster/libcluster/embedded"
	"github.com/libcluster/libcluster/sqlstore"
)

const defaultPort = 2379

const allowedURIs = "must be http://HOST:PORT[,…], https://HOST:PORT[,…], etcd://HOST:PORT[,…], " +
	"embedded:, embedded:PORT, embedded:PORT/DIR, sqlite:FILE, dir:FOLDER, peers:FILE, " +
	"postgres://USER:PASSWORD@HOST/DB or mysql://USER:PASSWORD@HOST[:PORT]/DB"

// parseRegistry reads a registry URI: either one of an etcd, or, and then
// config is not nil, the embedded one, which is at endpoints[0]. secure says
// what etcd:// means, https or http. Errors speak of the URI and don't repeat it.
func parseRegistry(uri string, secure bool) (endpoints []string, config *embedded.Config, err error) {
	if isEmbedded(uri) {
		config, err := parseEmbedded(uri)
		if err != nil {
			return nil, nil, err
		}
		return []string{fmt.Sprintf("https://127.0.0.1:%d", config.Port)}, config, nil
	}
	scheme := ""
	for one := range strings.SplitSeq(uri, ",") {
		host := strings.TrimSpace(one)
		if before, after, ok := strings.Cut(host, "://"); ok {
			scheme, host = strings.ToLower(before), after
		}
		switch scheme {
		case "http", "https":
		case "etcd":
			scheme = "http"
			if secure {
				scheme = "https"
			}
		default:
			if _, port, err := net.SplitHostPort(host); err == nil {
				if _, err := parsePort(port); err == nil {
					return nil, nil, fmt.Errorf("has no scheme; perhaps http://%s; %s", strings.TrimSpace(uri), allowedURIs)
				}
			}
			return nil, nil, errors.New(allowedURIs)
		}
		endpoint := scheme + "://" + host
		if err := checkPort(endpoint); err != nil {
			return nil, nil, err
		}
		endpoints = append(endpoints, endpoint)
	}
	return endpoints, nil, nil
}

// checkPort refuses a port that nothing can listen on, for which the library
// would wait. What else is wrong with an endpoint the library says itself.
func checkPort(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Port() == "" {
		return nil
	}
	if _, err := parsePort(u.Port()); err != nil {
		return fmt.Errorf("%q: %w", endpoint, err)
	}
	return nil
}

func parsePort(s string) (int, error) {
	port, err := strconv.ParseUint(s, 10, 16)
	if err != nil || port == 0 {
		return 0, fmt.Errorf("port %q must be 1 to 65535", s)
	}
	return int(port), nil
}

const embeddedScheme = "embedded:"

func isEmbedded(uri string) bool {
	_, ok := cutScheme(uri, embeddedScheme)
	return ok
}

// cutScheme returns what follows a scheme.
func cutScheme(uri, scheme string) (rest string, ok bool) {
	if len(uri) < len(scheme) || !strings.EqualFold(uri[:len(scheme)], scheme) {
		return "", false
	}
	return uri[len(scheme):], true
}

const sqliteScheme = "sqlite:"

const dirScheme = "dir:"

// hasNoServer reports whether the processes share files, and nothing else.
func hasNoServer(uri string) bool {
	_, file := cutScheme(uri, sqliteScheme)
	_, folder := cutScheme(uri, dirScheme)
	return file || folder
}

// dirInto has the registry in a folder on a local disk.
func (f *flags) dirInto(folder string, o *options) error {
	if folder == "" {
		return fmt.Errorf("%s: names no folder; must be dir:FOLDER", f.shown("registry"))
	}
	o.registry, o.file = libcluster.OnStore(dirstore.Dir(folder)), folder
	return nil
}

// sqliteInto has the registry in a file of SQLite's, which all processes of the machine
// can use that may write it.
func (f *flags) sqliteInto(file string, o *options) error {
	if file == "" {
		return fmt.Errorf("%s: names no file; must be sqlite:FILE", f.shown("registry"))
	}
	escaped := strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(file)
	db, err := sql.Open("sqlite", "file:"+escaped+"?_pragma=journal_mode(WAL)")
	if err != nil {
		return fmt.Errorf("%s: %w", f.shown("registry"), err)
	}
	o.registry, o.file, o.database = libcluster.OnStore(named{sqlstore.SQLite(db), "SQLite in " + file}), file, db
	return nil
}

// parseEmbedded reads what follows "embedded:". One slash ends the port and
// belongs to neither, so a folder that begins with another one is absolute. A
// folder without a port is refused: embedded:/DIR would read either way.
func parseEmbedded(uri string) (*embedded.Config, error) {
	rest := uri[len(embeddedScheme):]
	if rest == "" {
		return &embedded.Config{Port: defaultPort}, nil
	}
	port, dir, named := strings.Cut(rest, "/")
	if port == "" {
		return nil, fmt.Errorf("give the port before the folder, as in embedded:%d/DIR", defaultPort)
	}
	if named && dir == "" {
		return nil, errors.New("names no folder after the slash; leave the slash out for a temporary one")
	}
	number, err := parsePort(port)
	if err != nil {
		return nil, err
	}
	return &embedded.Config{Port: number, Dir: dir}, nil
}

// credentials returns the user, and the password of --user, the file, the environment or
// the terminal.
func (f *flags) credentials(ctx context.Context) (user, password string, err error) {
	user, password, _ = strings.Cut(f.user, ":")
	if user == "" {
		return "", "", fmt.Errorf("%s: names no user; must be USER, or USER:PASSWORD", f.shown("user"))
	}
	switch {
	case password != "":
	case f.given("password-file"):
		password, err = f.passwordOfFile()
	case os.Getenv(passwordEnv) != "":
		password = os.Getenv(passwordEnv)
	default:
		password, err = ask(ctx, user)
		if err == nil && password == "" {
			err = fmt.Errorf("%s: user %q has no password; give --password-file, set %s, or type it at a terminal",
				f.shown("user"), user, passwordEnv)
		}
	}
	return user, password, err
}

// passwordOfFile returns the first line of --password-file.
func (f *flags) passwordOfFile() (string, error) {
	text, err := os.ReadFile(f.passwordFile)
	if err != nil {
		return "", fmt.Errorf("%s: %w", label(f.set.Lookup("password-file")), err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	if line = strings.TrimSuffix(line, "\r"); line == "" {
		return "", fmt.Errorf("%s: its first line is empty, and should be the password", f.shown("password-file"))
	}
	return line, nil
}

// passwordEnv keeps a password out of the list of processes.
const passwordEnv = "LIBCLUSTER_PASSWORD"

// staticRegistry is the registry without -r.
func (f *flags) staticRegistry() (libcluster.Registry, error) {
	index, total, threads := int(f.index), int(f.total), f.counts[0]
	if f.staticEnv {
		tasks := 0 // not given
		if f.given("total") {
			tasks = total
		}
		registry, err := libcluster.StaticFromEnv(tasks)
		if err != nil {
			return nil, fmt.Errorf("%s: %s", f.shown("static-env"), oneLine(err))
		}
		return registry, nil
	}
	if index+threads > total {
		return nil, fmt.Errorf("%s, %s: %d threads from index %d on need a total of at least %d, and it is %d; give -T/--total",
			f.shown("threads"), f.shown("index"), threads, index, index+threads, total)
	}
	return libcluster.Static(index, total), nil
}
