// Package registryflag is the flags of the commands that say where a cluster's registry is
// and how to log in there, and what has to run for that registry.
package registryflag

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/heartbeats"
	"github.com/libcluster/libcluster/internal/hostport"
	"github.com/libcluster/libcluster/kv"
)

// Flags are the flags of a registry, among those of a command.
type Flags struct {
	Line

	uri, cacert, cert, certKey, user, passwordFile, heartbeats string
}

// Add adds the flags of a registry to those of a command.
func Add(set *pflag.FlagSet) *Flags {
	f := &Flags{Line: Line{set}}
	set.StringVarP(&f.uri, "registry", "r", "", "the registry's `URI`: "+allowedURIs)
	set.StringVar(&f.cacert, "cacert", "", "check the servers' certificates against `FILE` (default: the system's)")
	set.StringVar(&f.cert, "cert", "", "use the client certificate in `FILE`")
	set.StringVar(&f.certKey, "cert-key", "", "use the key in `FILE` of the client certificate")
	set.StringVar(&f.user, "user", "", "log in as `USER` to etcd or the database; the password comes from --password-file, "+
		passwordEnv+" or the terminal")
	set.StringVar(&f.passwordFile, "password-file", "", "take the password from the first line of `FILE`")
	set.StringVar(&f.heartbeats, "heartbeats", "", "send heartbeats by UDP beside the folder or the database, and listen at `HOST:PORT`, such as :0")
	return f
}

// NeedsRegistry is said of a flag that means nothing without a registry.
const NeedsRegistry = "needs a registry; give -r/--registry, such as -r embedded:"

// Check finds a flag that means nothing, or the opposite, beside the others: what was
// meant can't be told, so nothing is guessed.
func (f *Flags) Check() error {
	dynamic := f.Given("registry")
	internal := isEmbedded(f.uri)
	file := hasNoServer(f.uri)
	_, server := databaseScheme(f.uri)
	listed := f.Peers()
	gossips := f.hasScheme(gossipScheme)
	const (
		alone = "is for an etcd; a file has no users and no certificates"
		etcds = "is for an etcd; a database is told by options of its URI, such as ?sslmode=verify-full&sslrootcert=FILE"
		other = "is for an etcd of your own; the file of the peers names their certificates, and they have no users"
		told  = "is for an etcd; instances that gossip have a secret instead, in " + gossipSecretEnv
		beats = "is for a folder or a database, whose instances would notice a crash after the TTL"
		own   = "is for an etcd of your own; the embedded one has no users, and certificates of its own"
	)
	return f.Obey(Rules{
		{"cacert", !dynamic, NeedsRegistry},
		{"cert", !dynamic, NeedsRegistry},
		{"cert-key", !dynamic, NeedsRegistry},
		{"user", !dynamic, NeedsRegistry},
		{"heartbeats", !dynamic, NeedsRegistry},
		{"heartbeats", !file && !server, beats},
		{"cacert", internal, own},
		{"cert", internal, own},
		{"cert-key", internal, own},
		{"user", internal, own},
		{"cacert", listed, other},
		{"cert", listed, other},
		{"cert-key", listed, other},
		{"user", listed, other},
		{"cacert", file, alone},
		{"cert", file, alone},
		{"cert-key", file, alone},
		{"user", file, alone},
		{"cacert", gossips, told},
		{"cert", gossips, told},
		{"cert-key", gossips, told},
		{"user", gossips, told},
		{"cacert", server, etcds},
		{"cert", server, etcds},
		{"cert-key", server, etcds},
		{"password-file", !f.Given("user"), "needs a user; give --user USER"},
		{"password-file", strings.Contains(f.user, ":"), "contradicts the password in --user"},
		{"cert", !f.Given("cert-key"), "needs its key too; give --cert-key"},
		{"cert-key", !f.Given("cert"), "needs its certificate too; give --cert"},
	})
}

// Peers reports whether the instances themselves are the registry.
func (f *Flags) Peers() bool {
	_, listed := cutScheme(f.uri, peersScheme)
	return listed
}

// Etcd reports whether the registry is an etcd of the user's own.
func (f *Flags) Etcd() bool { return f.hasScheme("http://", "https://", "etcd://") }

// EtcdWithTLS reports whether the registry is such an etcd, and may have TLS.
func (f *Flags) EtcdWithTLS() bool { return f.hasScheme("https://", "etcd://") }

func (f *Flags) hasScheme(schemes ...string) bool {
	return slices.ContainsFunc(schemes, func(scheme string) bool {
		_, has := cutScheme(f.uri, scheme)
		return has
	})
}

// Use is what a registry is opened for.
type Use struct {
	Instances int  // how many join in this process
	Looks     bool // nobody joins
	Verbose   bool // the registry may log
}

// Open returns the registry that the flags name, with the password if it has to be typed.
// It connects to nothing.
func (f *Flags) Open(ctx context.Context, use Use) (*Registry, error) {
	if f.Given("heartbeats") {
		if _, _, err := hostport.Split(f.heartbeats, true); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Label("heartbeats"), err)
		}
	}
	if file, ok := cutScheme(f.uri, sqliteScheme); ok {
		return f.openSQLite(file)
	}
	if scheme, ok := databaseScheme(f.uri); ok {
		return f.openDatabase(ctx, scheme, use)
	}
	if folder, ok := cutScheme(f.uri, dirScheme); ok {
		return f.openFolder(folder)
	}
	if file, ok := cutScheme(f.uri, peersScheme); ok {
		return f.openPeers(file, use)
	}
	if addresses, ok := cutScheme(f.uri, gossipScheme); ok {
		return f.openGossip(addresses)
	}
	return f.openEtcd(ctx)
}

// onStore has the registry on a store, with heartbeats if they are asked for.
func (f *Flags) onStore(store kv.Store) *Registry {
	if !f.Given("heartbeats") {
		return &Registry{Registry: libcluster.OnStore(store)}
	}
	beside := func(log *zap.Logger) libcluster.Registry {
		return libcluster.OnStore(heartbeats.Beside(store, heartbeats.Config{Bind: f.heartbeats, Logger: log}))
	}
	return &Registry{Registry: beside(nil), logging: beside}
}

func (f *Flags) openEtcd(ctx context.Context) (*Registry, error) {
	if strings.Contains(f.uri, "@") && !isEmbedded(f.uri) {
		return nil, fmt.Errorf("%s: the URI must not hold a user or a password; give them with --user", f.Label("registry"))
	}
	secure := f.Given("cacert") || f.Given("cert")
	endpoints, config, err := parseRegistry(f.uri, secure)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Shown("registry"), err)
	}
	for _, name := range []string{"cacert", "cert", "cert-key"} {
		if !f.Given(name) {
			continue
		}
		if strings.HasPrefix(endpoints[0], "http:") {
			return nil, fmt.Errorf("%s: is for https, and %s is not", f.Shown(name), f.Shown("registry"))
		}
		if _, err := os.ReadFile(f.Lookup(name).Value.String()); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Label(name), err)
		}
	}
	etcd := libcluster.Etcd(endpoints...)
	etcd.CACert, etcd.Cert, etcd.CertKey = f.cacert, f.cert, f.certKey
	if f.Given("user") {
		user, password, err := f.credentials(ctx)
		if err != nil {
			return nil, err
		}
		etcd.Username, etcd.Password = user, libcluster.NewSecret(password)
	}
	if config != nil {
		// It gets its TLS when embedded has been opened.
		return &Registry{Registry: &etcd, Embedded: config, etcd: &etcd}, nil
	}
	return &Registry{Registry: etcd}, nil
}

// credentials returns the user, and the password of --user, the file, the environment or
// the terminal.
func (f *Flags) credentials(ctx context.Context) (user, password string, err error) {
	user, password, _ = strings.Cut(f.user, ":")
	if user == "" {
		return "", "", fmt.Errorf("%s: names no user; must be USER, or USER:PASSWORD", f.Shown("user"))
	}
	switch {
	case password != "":
	case f.Given("password-file"):
		password, err = f.passwordOfFile()
	case os.Getenv(passwordEnv) != "":
		password = os.Getenv(passwordEnv)
	default:
		password, err = ask(ctx, user)
		if err == nil && password == "" {
			err = fmt.Errorf("%s: user %q has no password; give --password-file, set %s, or type it at a terminal",
				f.Shown("user"), user, passwordEnv)
		}
	}
	return user, password, err
}

// passwordOfFile returns the first line of --password-file.
func (f *Flags) passwordOfFile() (string, error) {
	text, err := os.ReadFile(f.passwordFile)
	if err != nil {
		return "", fmt.Errorf("%s: %w", f.Label("password-file"), err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	if line = strings.TrimSuffix(line, "\r"); line == "" {
		return "", errors.New(f.Shown("password-file") + ": its first line is empty, and should be the password")
	}
	return line, nil
}

// passwordEnv keeps a password out of the list of processes.
const passwordEnv = "LIBCLUSTER_PASSWORD"
