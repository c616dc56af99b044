package peers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/gofrs/flock"
	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster/internal/etcdserver"
)

// lockFile is locked while a process has the data folder.
const lockFile = "libcluster.lock"

// run is the time from one start of this peer's server to its end.
type run struct {
	p        *Peers
	log      *zap.Logger
	board    *board
	http     *http.Transport // to the other peers
	cancel   context.CancelFunc
	work     sync.WaitGroup         // goroutines, which end with the run
	why      atomic.Pointer[string] // what it waits for
	broken   chan struct{}          // closed when etcd cannot go on
	reason   atomic.Pointer[string] // for that
	ready    chan struct{}          // closed when client is set
	client   *clientv3.Client       // to this server
	ended    chan struct{}          // closed when err is set
	err      error                  // why the run has ended by itself
	closing  error                  // etcd does not stop
	cluster  string                 // that the data is of, once it was opened; of the goroutine of main
	followed map[string]struct{}    // addresses that are followed; of the goroutine of main
}

// start starts a run. It returns at once.
func (p *Peers) start(log *zap.Logger) *run {
	if p.cfg.Logger != nil {
		log = p.cfg.Logger
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &run{
		p: p, log: log.With(zap.String("self", p.self.ID)), cancel: cancel,
		board:  newBoard(word{Process: uuid.NewString(), Voters: p.voters}),
		http:   p.transport(),
		broken: make(chan struct{}), ready: make(chan struct{}), ended: make(chan struct{}),
		followed: map[string]struct{}{p.self.Address: {}},
	}
	go func() {
		defer close(r.ended)
		defer cancel()
		if err := r.main(ctx); err != nil && ctx.Err() == nil {
			r.err = fmt.Errorf("peers: %s: %w", p.self.ID, err)
			if p.news(err.Error()) {
				r.log.Error("the server has ended; it is started again when an instance joins", zap.Error(err))
			}
		}
	}()
	return r
}

// waitsFor notes what the run waits for.
func (r *run) waitsFor(why string) {
	if before := r.why.Swap(&why); (before == nil || *before != why) && r.p.news(why) {
		r.log.Warn("the server has not started yet", zap.String("why", why))
	}
}

// main is the run. What it opens it closes in the reverse order.
func (r *run) main(ctx context.Context) (err error) {
	if n := len(r.p.voters); n%2 == 0 && r.p.news("even") {
		r.log.Warn("an even number of peers survives the loss of no more than one less; take 3 or 5", zap.Int("peers", n))
	}
	lock, err := lockFolder(r.p.cfg.DataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	work, stop := context.WithCancel(context.WithoutCancel(ctx)) // the server hears the others to its end
	defer r.work.Wait()
	defer stop()
	for {
		err := r.serve(ctx, work)
		if !errors.Is(err, errElsewhere) || r.closing != nil {
			return err
		}
	}
}

// errElsewhere says that the others have another cluster than that of the data.
var errElsewhere = errors.New("the others have another cluster")

// serve opens the port, and the server when it may begin, until ctx ends or the server does.
// work is the context of what it starts.
func (r *run) serve(ctx, work context.Context) error {
	stage, named, err := r.openFolder()
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	r.board.say(func(w *word) { w.Stage, w.Lots, w.Cluster = stage, named, r.cluster })
	secured, err := r.p.cfg.TLS.server()
	if err != nil {
		return err
	}
	front, err := openFront(ctx, r.p.cfg.Listen, secured, r.board)
	if err != nil {
		return err
	}
	defer front.close()
	r.followAll(work, r.p.voters)

	servers := r.p.voters
	if stage == etcdserver.Empty {
		servers, named, err = r.begin(ctx)
	} else {
		err = r.awaitOwn(ctx)
	}
	if err != nil {
		return err
	}
	s, err := r.openServer(ctx, front, servers, named)
	if err != nil {
		return err
	}
	defer func() { r.closing = s.close(closeTimeout) }()
	stirring, end := context.WithCancel(work)
	defer end()
	s.serve.Go(func() { r.stir(stirring, s) })
	r.cluster = s.etcd.Server.Cluster().ID().String()
	r.board.say(func(w *word) { w.Cluster = r.cluster })
	if err := r.awaitReady(ctx, s, servers); err != nil {
		return err
	}
	if r.client, err = s.dial("http://"+r.p.self.Address, r.board); err != nil {
		return err
	}
	defer r.client.Close() // clients before the server
	s.serveOn(front.grpc)
	close(r.ready)
	r.p.forgetNews()
	r.log.Info("the server is ready", zap.String("address", r.p.self.Address), zap.String("cluster", r.cluster))
	return r.tend(ctx, work, s)
}

// openFolder returns how far the server has come on its data folder, and the lots that the
// folder has.
//
// Data with which the server has never served goes if the others serve another cluster: its own
// has no majority. The lot goes first, which must not make that cluster once more.
func (r *run) openFolder() (etcdserver.Stage, lots, error) {
	dir, own := r.p.cfg.DataDir, r.p.self.Address
	stage, err := etcdserver.StageOf(dir)
	if err != nil {
		return "", nil, err
	}
	heard, _ := r.board.others()
	if there := elsewhere(r.p.voters, r.cluster, heard); stage == etcdserver.Forming && there != nil {
		r.log.Warn("the others have made another cluster; the server enters it", zap.String("folder", dir), zap.Strings("others", there))
		if err := errors.Join(forgetLots(dir), os.RemoveAll(filepath.Join(dir, etcdserver.MemberDir))); err != nil {
			return "", nil, err
		}
		stage, r.cluster = etcdserver.Empty, ""
	}
	if stage == etcdserver.Formed {
		return stage, lots{}, forgetLots(dir)
	}
	named, err := readLots(dir)
	if err != nil {
		return "", nil, err
	}
	if stage == etcdserver.Empty {
		named = named.drawn(own)
		err = named.keep(dir)
	}
	return stage, named, err
}

// awaitOwn waits while the others are known to have another cluster.
func (r *run) awaitOwn(ctx context.Context) error {
	for {
		heard, changed := r.board.others()
		there := elsewhere(r.p.voters, r.cluster, heard)
		if there == nil {
			return nil
		}
		r.waitsFor(r.isOld(there))
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// isOld says what to do about data that is of another cluster than that of the others.
func (r *run) isOld(there []string) string {
	return fmt.Sprintf("the data folder %s is of another cluster (%s) than that of %s. If it is old, move it away, and this peer "+
		"enters their cluster; if theirs are old, stop all, and bring back the right ones",
		r.p.cfg.DataDir, r.cluster, strings.Join(there, " and "))
}

// followAll follows peers that are not followed yet.
func (r *run) followAll(ctx context.Context, addresses []string) {
	for _, address := range addresses {
		if _, ok := r.followed[address]; !ok {
			r.followed[address] = struct{}{}
			r.work.Go(func() { r.follow(ctx, address) })
		}
	}
}

// awaitReady waits until the server has a majority of voters, and is one.
func (r *run) awaitReady(ctx context.Context, s *server, servers []string) error {
	for ready := false; !ready; {
		heard, changed := r.board.others()
		if elsewhere(r.p.voters, r.cluster, heard) != nil {
			return errElsewhere
		}
		why := "waits for a majority of the peers " + fmt.Sprint(servers) + "; start them"
		if there := strangers(r.p.voters, r.cluster, heard); there != nil {
			why += "; " + r.isOld(there)
		}
		r.waitsFor(why)
		select {
		case <-s.etcd.Server.ReadyNotify():
			ready = true
		case <-changed:
		case <-s.etcd.Server.StopNotify():
			return r.stopped()
		case <-r.broken:
			return r.stopped()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if s.etcd.Server.IsLearner() {
		if err := r.promote(ctx, uint64(s.etcd.Server.MemberID()), servers, s.etcd.Server.StopNotify()); err != nil {
			return err
		}
	}
	r.board.say(func(w *word) { w.Stage, w.Lots = etcdserver.Formed, nil })
	return errors.Join(etcdserver.Serves(r.p.cfg.DataDir), forgetLots(r.p.cfg.DataDir))
}

// stopped says why etcd has ended by itself.
func (r *run) stopped() error {
	if reason := r.reason.Load(); reason != nil {
		return fmt.Errorf("the server cannot go on: %s; see that the disk is not full and the data folder %s can be written",
			*reason, r.p.cfg.DataDir)
	}
	return fmt.Errorf("the server has stopped; if this peer was removed (libcluster peers remove), empty its data folder %s before it comes back",
		r.p.cfg.DataDir)
}

// breaks is called where etcd would end the process. It ends the goroutine that calls it.
func (r *run) breaks(why string) {
	if r.reason.CompareAndSwap(nil, &why) {
		close(r.broken)
	}
	runtime.Goexit()
}

func lockFolder(dir string) (*flock.Flock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	lock := flock.New(filepath.Join(dir, lockFile))
	alone, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	if !alone {
		return nil, fmt.Errorf("data folder %s is in use by another process; give each instance its own", dir)
	}
	return lock, nil
}
