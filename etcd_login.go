//go:build !wasm

package libcluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"

	"github.com/libcluster/libcluster/internal/chance"
)

// loginTimeout bounds one log-in. It is long, since what has been given up has to
// be done again.
const loginTimeout = 10 * time.Second

// When etcd is there and a log-in gets no answer, many log in at once. The next
// attempts are spread over crowdSpread, doubled each time, up to crowdCap: as many
// as come at the same instant, they get in.
const (
	crowdSpread = 10 * time.Second
	crowdCap    = 40 * time.Second
)

// A password that is denied was changed, and each instance that has the last one still asks. It asks
// again after deniedAgain, doubled each time, up to crowdCap.
const deniedAgain = time.Second

// etcdLogin is a membership's log-in with a password: the token that it has brought is
// sent with each request, of all the membership's clients, until etcd refuses it.
//
// The etcd client's own logs in for each client and each stream anew, three times
// for one attempt to join, and gives up with the request that waits. A log-in
// costs etcd some 50 ms of a core whether or not somebody still waits for it: when
// fifty members came back at once, all of its work was thrown away.
type etcdLogin struct {
	username string
	password Secret
	chance   *chance.Source

	mu      sync.Mutex // guards what follows
	known   bool       // token is what etcd wants, as far as we know
	token   string     // empty if it wants none
	pending *pendingLogin
	crowded int       // how often in a row there was a crowd
	denied  error     // why etcd has denied the password; nil: it has not
	denials int       // in a row
	due     time.Time // before this nothing is sent
}

// pendingLogin is a log-in that is under way.
type pendingLogin struct {
	conn *grpc.ClientConn
	done chan struct{} // closed when err is set
	err  error
}

// loginAs returns the membership's log-in.
func (n *etcdConnections) loginAs(username string, password Secret, from *chance.Source) *etcdLogin {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.login == nil {
		n.login = &etcdLogin{username: username, password: password, chance: from}
	}
	return n.login
}

// options put the token on every request and stream of a client.
func (l *etcdLogin) options() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithChainUnaryInterceptor(l.unary), grpc.WithChainStreamInterceptor(l.stream)}
}

func (l *etcdLogin) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if method == pb.Auth_Authenticate_FullMethodName || method == pb.Maintenance_Status_FullMethodName {
		return invoke(ctx, method, req, reply, cc, opts...) // these need no token
	}
	for first := true; ; first = false {
		token, err := l.get(ctx, cc)
		if err != nil {
			return err
		}
		err = invoke(withToken(ctx, token), method, req, reply, cc, opts...)
		if !l.refused(token, err) || !first {
			return err
		}
	}
}

func (l *etcdLogin) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	token, err := l.get(ctx, cc)
	if err != nil {
		return nil, err
	}
	s, err := open(withToken(ctx, token), desc, cc, method, opts...)
	if err != nil {
		l.refused(token, err)
		return nil, err
	}
	return &etcdLoginStream{s, l, token}, nil
}

// etcdLoginStream notices when its token is refused. Its user then opens another stream.
type etcdLoginStream struct {
	grpc.ClientStream
	login *etcdLogin
	token string
}

func (s *etcdLoginStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	s.login.refused(s.token, err)
	if answer, ok := m.(*pb.WatchResponse); ok && err == nil && answer.Canceled {
		s.login.refused(s.token, errors.New(answer.CancelReason))
	}
	return err
}

// get returns the token. If there is none, it logs in once for all callers that wait. The
// log-in goes on for as long as the connection does, also when the callers have given up.
func (l *etcdLogin) get(ctx context.Context, cc *grpc.ClientConn) (string, error) {
	for {
		l.mu.Lock()
		if l.known {
			defer l.mu.Unlock()
			return l.token, nil
		}
		if l.denied != nil && time.Now().Before(l.due) {
			defer l.mu.Unlock()
			return "", l.denied
		}
		p := l.pending
		if p == nil || p.conn != cc { // the log-in of a closed connection is ending
			p = &pendingLogin{conn: cc, done: make(chan struct{})}
			l.pending = p
			go l.logIn(p)
		}
		l.mu.Unlock()
		select {
		case <-p.done:
			if p.err != nil {
				return "", p.err
			}
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

func (l *etcdLogin) logIn(p *pendingLogin) {
	ctx, cancel := context.WithTimeout(context.Background(), loginTimeout)
	defer cancel()
	answer, err := pb.NewAuthClient(p.conn).Authenticate(ctx, &pb.AuthenticateRequest{Name: l.username, Password: l.password.Reveal()})
	if errors.Is(rpctypes.Error(err), rpctypes.ErrAuthNotEnabled) {
		answer, err = &pb.AuthenticateResponse{}, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.known, l.token, l.crowded = true, answer.Token, 0
		l.denied, l.denials = nil, 0
	} else if errors.Is(rpctypes.Error(err), rpctypes.ErrAuthFailed) {
		pause := min(deniedAgain<<l.denials, crowdCap)
		l.denied, l.denials = err, min(l.denials+1, 10)
		l.due = time.Now().Add(pause/2 + l.chance.Below(pause/2))
	}
	if l.pending == p {
		l.pending = nil
	}
	p.err = err
	close(p.done)
}

// wait tells why it is too early to log in again, if it is.
func (l *etcdLogin) wait() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if left := time.Until(l.due); left > 0 && !l.known {
		if l.denied != nil {
			return l.denied
		}
		return fmt.Errorf("too many log in at once: will try again in %v", left.Round(time.Millisecond))
	}
	return nil
}

// unanswered notes that an attempt has ended without an answer to its log-in, and
// makes room for others if it was for them.
func (l *etcdLogin) unanswered(client *clientv3.Client) {
	if client.ActiveConnection().GetState() != connectivity.Ready {
		return // no server was there
	}
	ctx, cancel := context.WithTimeout(context.Background(), releaseGrace)
	defer cancel()
	answer, err := pb.NewMaintenanceClient(client.ActiveConnection()).Status(ctx, &pb.StatusRequest{})
	if err == nil && answer.Leader == 0 {
		return // without a leader no log-in succeeds
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.known {
		l.due = time.Now().Add(l.chance.Below(min(crowdSpread<<l.crowded, crowdCap)))
		l.crowded = min(l.crowded+1, 10)
	}
}

// refused tells whether an error is that of a token, which is then forgotten.
func (l *etcdLogin) refused(token string, err error) bool {
	// Of a watch it comes as a text that holds the error's.
	if err == nil || !slices.ContainsFunc(tokenErrors, func(e error) bool { return strings.Contains(err.Error(), e.Error()) }) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.token == token {
		l.known, l.token = false, ""
	}
	return true
}

var tokenErrors = []error{rpctypes.ErrInvalidAuthToken, rpctypes.ErrUserEmpty, rpctypes.ErrAuthOldRevision}

func withToken(ctx context.Context, token string) context.Context {
	if token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, token)
}
