//go:build !wasm

package libcluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/libcluster/libcluster/internal/etcd"
)

const (
	// gRPC's own backoff between connection attempts grows to two minutes;
	// capped at this, clients are back soon after an outage of any length.
	etcdReconnectCap = time.Second

	// maxAnswer bounds an answer of etcd's, which is in memory as a whole. It has room for
	// a page of the largest records that a member may have, or for some of the largest
	// values that etcd takes.
	maxAnswer = 20 << 20
)

// Etcd returns a registry on the etcd v3 servers at endpoints: URLs, several
// of them also in one string with commas between. For TLS, a password, other
// timeouts or a client that you already have, use [EtcdConfig].
//
// Any etcd from 3.4 on will do.
func Etcd(endpoints ...string) EtcdConfig { return EtcdConfig{Endpoints: endpoints} }

// EtcdConfig is a registry on etcd v3. A member's key is /KEY/ENV/ID, or
// /KEY/PARTITION/ENV/ID, bound to a lease; its value is [Member.Record].
// Each joined instance has one connection of its own, unless Client is given.
//
// Keys below /KEY/ENV/ that are not valid member records are logged and ignored. Valid
// ones count, no matter who wrote them. The records of all members together may take
// 32 MiB; each takes some hundred bytes besides its text. An instance that would have to
// read more is refused; in a mode with a plan that is the coordinator. The others keep
// their assignments and log the trouble until there is room.
type EtcdConfig struct {
	// Endpoints are URLs such as http://127.0.0.1:2379, also several in one
	// string with commas between. All are http, or all are https. Required
	// unless Client is given.
	Endpoints []string

	// CACert is the file with the certificates against which the servers' certificates
	// are checked. Default: the system's. Cert and CertKey are this client's certificate
	// and its key; give both or neither. All are PEM files, for https only. They are read
	// for each connection: replace them, and an instance that reconnects uses the new
	// ones. A file that is being written is read later.
	CACert, Cert, CertKey string

	// TLS replaces these files, for example to set in ServerName another server name than
	// the endpoints have. For https only. Do not change it after New.
	TLS *tls.Config `json:"-" xml:"-"`

	// Username and Password are sent to an etcd that wants them. Give both or neither.
	// They never reach a log. If they go in the clear to an http endpoint beyond this
	// machine, that is logged once for each Join. An instance logs in once, and again when
	// its token has expired or etcd was restarted. Each log-in costs etcd some 50 ms of a
	// core: more log-ins at once than etcd can do in 5 s take turns.
	Username string
	Password Secret `json:"-" xml:"-"`

	// DialTimeout bounds one attempt to connect. Default: 5 s, in which two addresses
	// of a name are tried: Go gives each its share, but 2 s at least.
	DialTimeout time.Duration
	// RequestTimeout bounds one request. Default: 2 s. A request to join has more, since
	// it may be slow when many instances join at once: two fifths of the time that the
	// attempt still has. An attempt has 20 s, and 5 s when an instance begins to rejoin.
	// Heartbeats have deadlines of their own, taken from the TTL.
	RequestTimeout time.Duration

	// Client is used instead of a connection of libcluster's own. It stays the caller's:
	// libcluster does not close it, and it must stay open until the instance has left. It
	// must have a connection of its own; a client of v3client.New has none. With Client,
	// all other fields but RequestTimeout must be zero. After an outage the client
	// reconnects as it was configured to, by default after up to two minutes; see
	// grpc.WithConnectParams. Its logger is used as it is: if the logger blocks, it holds
	// up the requests that log something.
	Client *clientv3.Client
}

// String returns the endpoints, and nothing secret.
func (e EtcdConfig) String() string {
	if e.Client != nil {
		return "etcd at " + strings.Join(e.Client.Endpoints(), ",")
	}
	endpoints, _, err := parseEndpoints(e.Endpoints)
	if err != nil {
		return "etcd" // what is no endpoint may hold a password
	}
	return "etcd at " + strings.Join(endpoints, ",")
}

// GoString is String: a password must not reach a log by way of %#v.
func (e EtcdConfig) GoString() string { return e.String() }

// Capabilities are all there are.
func (e EtcdConfig) Capabilities() Capabilities { return storeCapabilities }

// Enter begins a membership. The error says why the configuration will not do. Nothing is
// dialled.
func (e EtcdConfig) Enter(r Registration) (Membership, error) {
	if _, err := e.resolve(); err != nil {
		return nil, err
	}
	if _, err := e.newTLS(nil); err != nil {
		return nil, err
	}
	return &etcdMembership{etcd: e, joiner: newJoiner(r)}, nil
}

// etcdMembership is a membership in an etcd to which each attempt to join connects anew.
type etcdMembership struct {
	etcd EtcdConfig
	joiner
	connections etcdConnections
}

// Join records the member under a new lease.
func (m *etcdMembership) Join(ctx context.Context, own Member) (Session, time.Duration, error) {
	s, ttl, err := m.connect(ctx, own)
	if err != nil {
		return nil, 0, m.etcd.explained(refused(err), "/"+m.reg.Cluster()+"/")
	}
	return s, ttl, nil
}

func (m *etcdMembership) connect(ctx context.Context, own Member) (*storeSession, time.Duration, error) {
	e, r, connections := m.etcd, m.reg, &m.connections
	login := connections.loginAs(e.Username, e.Password, r.chance)
	if err := login.wait(); err != nil {
		return nil, 0, err
	}
	client, err := e.client(connections, login, r.Logger)
	if err != nil {
		return nil, 0, err
	}
	space := etcd.Open(etcd.Config{
		Client: client, Owned: e.Client == nil, Prefix: "/" + r.Cluster() + "/",
		Timeout: e.requestTimeout(), Silence: etcd.SilenceOf(r.TTL), Shared: &connections.shared, Log: r.Logger,
		MayWrite: e.toBeAllowed(r), Passive: r.Passive,
	})
	failing := func() {
		r.noteTrouble(e.explained(fmt.Errorf("not connected yet%s", connectionTrouble(client)), "/"+r.Cluster()+"/"))
	}
	if err = connect(ctx, client, e.requestTimeout(), failing); err == nil && e.Username != "" {
		// Any request logs in. This one has the time that the whole attempt has.
		_, _, err = space.Get(ctx, r.Member.ID)
		if errors.Is(err, context.DeadlineExceeded) {
			login.unanswered(client)
		}
	}
	if err == nil {
		var s *storeSession
		var ttl time.Duration
		if s, ttl, err = m.join(ctx, space, own); err == nil {
			return s, ttl, nil
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer in time: %w%s", err, connectionTrouble(client))
	}
	_ = space.Close() // the error that counts is the first
	return nil, 0, err
}

// toBeAllowed are the keys besides its own that the user has to be allowed to write. Without
// credentials there are no users, or the member's own key is refused.
func (e EtcdConfig) toBeAllowed(r Registration) []string {
	if !e.mayBeUser() {
		return nil
	}
	return writtenIn(r.Mode, r.Passive)
}

// mayBeUser reports whether etcd may know a user by what it is sent.
func (e EtcdConfig) mayBeUser() bool {
	c := e.Client
	if c == nil {
		return e.Username != "" || e.Cert != "" || e.TLS != nil
	}
	// To an endpoint with http: etcd's client sends no certificate.
	certified := slices.ContainsFunc(c.Endpoints(), func(endpoint string) bool { return !strings.HasPrefix(endpoint, "http:") })
	return c.Username != "" || c.Token != "" || certified
}

// nothingAnswers is all that is known of an address that swallows what is sent to it.
const nothingAnswers = "nothing has answered the attempt to connect"

// connectionTrouble tells why there is no connection, if there is none. The
// client's own requests wait for one and then say only that time is up, whether
// nobody listens there or the certificates do not fit.
func connectionTrouble(client *clientv3.Client) string {
	switch client.ActiveConnection().GetState() {
	case connectivity.Idle, connectivity.Connecting: // and nothing has failed before
		return ": " + nothingAnswers
	}
	ctx, cancel := context.WithTimeout(context.Background(), releaseGrace)
	defer cancel()
	_, err := pb.NewMaintenanceClient(client.ActiveConnection()).Status(ctx, &pb.StatusRequest{})
	if status.Code(err) != codes.Unavailable {
		return ""
	}
	return ": " + status.Convert(err).Message()
}

func (e EtcdConfig) requestTimeout() time.Duration {
	if e.RequestTimeout == 0 {
		return etcd.DefaultTimeout
	}
	return e.RequestTimeout
}

// client returns the client to use, which is not connected yet unless it is
// the caller's.
func (e EtcdConfig) client(connections *etcdConnections, login *etcdLogin, log *zap.Logger) (*clientv3.Client, error) {
	config, err := e.resolve()
	if err != nil {
		return nil, Permanent(err)
	}
	if e.Client != nil {
		// An attempt to connect that is due in two minutes is due now.
		e.Client.ActiveConnection().ResetConnectBackoff()
		return e.Client, nil
	}
	if strings.HasPrefix(config.Endpoints[0], "https:") {
		secured, err := connections.secured(e, log)
		if err != nil {
			return nil, Permanent(err)
		}
		config.DialOptions = append(config.DialOptions, grpc.WithTransportCredentials(secured))
	}
	if e.Username != "" {
		if inClear(config.Endpoints) {
			connections.exposed.Do(func() {
				log.Warn("the password is sent in the clear; give https endpoints", zap.Strings("endpoints", config.Endpoints))
			})
		}
		config.DialOptions = append(config.DialOptions, login.options()...)
	}
	return clientv3.New(config)
}

// resolve checks every field and makes the client's configuration of them.
func (e EtcdConfig) resolve() (clientv3.Config, error) {
	none := clientv3.Config{}
	if e.DialTimeout < 0 || e.RequestTimeout < 0 {
		return none, errors.New("DialTimeout and RequestTimeout must not be negative")
	}
	if e.Client != nil {
		if len(e.Endpoints) > 0 || e.CACert+e.Cert+e.CertKey+e.Username != "" || !e.Password.isEmpty() ||
			e.TLS != nil || e.DialTimeout != 0 {
			return none, errors.New("Client is given: Endpoints, certificates, TLS, user, password and DialTimeout must not be")
		}
		return none, usable(e.Client)
	}
	endpoints, secure, err := parseEndpoints(e.Endpoints)
	if err != nil {
		return none, err
	}
	if err := e.checkTLS(secure); err != nil {
		return none, err
	}
	if (e.Username == "") != e.Password.isEmpty() {
		return none, errors.New("Username and Password: give both or neither")
	}
	dialTimeout := e.DialTimeout
	if dialTimeout == 0 {
		dialTimeout = connectTimeout
	}
	return clientv3.Config{
		Endpoints:   endpoints,
		DialTimeout: dialTimeout,
		// A page that is larger is read again in smaller ones.
		MaxCallRecvMsgSize: maxAnswer,
		Logger:             zap.NewNop(), // every error comes back and is logged once, with its context
		// 10 s is the least that gRPC allows.
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 3 * time.Second,
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: backoffBase, Multiplier: 1.6, Jitter: 0.2, MaxDelay: etcdReconnectCap,
			},
			MinConnectTimeout: dialTimeout,
		})},
	}, nil
}

// inClear reports whether others can read what is sent to one of the endpoints.
func inClear(endpoints []string) bool {
	return slices.ContainsFunc(endpoints, func(endpoint string) bool {
		u, err := url.Parse(endpoint)
		return err == nil && u.Scheme == "http" && u.Hostname() != "localhost" && !net.ParseIP(u.Hostname()).IsLoopback()
	})
}

// usable tells why a client of the caller's will not do.
func usable(client *clientv3.Client) error {
	switch {
	case client.Ctx().Err() != nil:
		return errors.New("Client is closed: give one that stays open until the instance has left")
	case client.ActiveConnection() == nil:
		return errors.New("Client has no connection, as one of v3client.New has none: " +
			"give one of clientv3.New, dialled to a URL on which the server listens")
	}
	return nil
}

// parseEndpoints returns the endpoints one by one, and whether they are https.
func parseEndpoints(given []string) (endpoints []string, secure bool, err error) {
	schemes := map[string]bool{}
	for _, list := range given {
		if strings.ContainsAny(list, "@?#") {
			// Not quoted, and looked for before the commas are: a password
			// may hold one.
			return nil, false, errors.New("endpoints: each must be scheme, host and port only, " +
				"such as http://127.0.0.1:2379; user and password go apart from them")
		}
		for one := range strings.SplitSeq(list, ",") {
			u, err := parseEndpoint(strings.TrimSpace(one))
			if err != nil {
				return nil, false, err
			}
			schemes[u.Scheme] = true
			endpoints = append(endpoints, u.Scheme+"://"+u.Host)
		}
	}
	if len(endpoints) == 0 {
		return nil, false, errors.New("no endpoints: give at least one URL such as http://127.0.0.1:2379")
	}
	if len(schemes) > 1 {
		return nil, false, errors.New("endpoints: all must be http, or all https")
	}
	return endpoints, schemes["https"], nil
}

func parseEndpoint(s string) (*url.URL, error) {
	const example = "such as http://127.0.0.1:2379"
	if _, port, err := net.SplitHostPort(s); err == nil && isPort(port) {
		return nil, fmt.Errorf("endpoint %q: has no scheme; must be an http or https URL, such as http://%s", s, s)
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		// Neither quoted nor wrapped, since that quotes it: what should be a
		// port may be a password.
		return nil, fmt.Errorf("an endpoint is not a URL %s", example)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("endpoint %q: must be an http or https URL %s", s, example)
	case u.Hostname() == "":
		return nil, fmt.Errorf("endpoint %q: has no host; must be a URL %s", s, example)
	case strings.Contains(u.Hostname(), "%"):
		return nil, fmt.Errorf("endpoint %q: has an IPv6 zone, which etcd's client cannot dial; use an address without one, "+
			"or a name", s)
	case u.Path != "" && u.Path != "/":
		return nil, fmt.Errorf("endpoint %q: must be scheme, host and port only, %s", s, example)
	case u.Port() == "":
		u.Host = net.JoinHostPort(u.Hostname(), "2379")
	}
	if !isPort(u.Port()) {
		return nil, fmt.Errorf("endpoint %q: port must be 1 to 65535", s)
	}
	return u, nil
}

func isPort(s string) bool {
	port, err := strconv.ParseUint(s, 10, 16)
	return err == nil && port > 0
}
