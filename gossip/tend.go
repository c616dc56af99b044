package gossip

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/hostport"
)

const (
	// The first looks for others are close together, since instances often start together. These are
	// the times from one look's beginning to the next one's.
	lookFirst = 100 * time.Millisecond
	lookAgain = 5 * time.Second
	// lookAtOnce is how many nodes that are down are looked for at a time. One that is found
	// tells of all the others on its side.
	lookAtOnce = 3
	// seedPatience is how long Join waits for seeds that do not answer.
	seedPatience = dialTimeout + time.Second
)

// errSecret means that a node was found, and has another secret.
var errSecret = errors.New("gossip.Config.Secret: an instance answers that has another secret, or none; give all the same")

// tend looks for nodes that are not here, for as long as the node runs: memberlist gives up on
// those that are down. It also forgets.
func (n *node) tend() {
	logged := ""
	for pause, took := lookFirst, time.Duration(0); sleep(n.ctx, max(pause-took, lookFirst)); pause = min(2*pause, lookAgain) {
		began := time.Now()
		err := n.look(n.ctx)
		took = time.Since(began) // one that does not answer is waited for
		if text := fmt.Sprint(err); err != nil && text != logged && n.ctx.Err() == nil {
			n.log.Warn("a seed is not found, will keep looking", zap.Error(err))
			logged = text
		}
		n.mu.Lock()
		n.records.forget(time.Now())
		n.mu.Unlock()
		if n.hasMoved() {
			n.giveWay()
			return
		}
	}
}

// hasMoved reports whether the address was found out, and not given, that the others know, and this
// machine has another one by now, as DHCP may give it.
func (n *node) hasMoved() bool {
	at := n.transport.address
	if n.cfg.Advertise != "" || !n.transport.port.Addr().Addr().IsUnspecified() || !hostport.IsGone(at.Addr()) {
		return false
	}
	now, err := advertised(n.ctx, n.cfg, n.transport.port.Addr())
	return err == nil && now != at
}

// giveWay ends the node and its session, so that the instance joins by another node. The others
// do not reach this one any more.
func (n *node) giveWay() {
	n.mu.Lock()
	s := n.session
	n.mu.Unlock()
	if s == nil || !s.of.drop(n) {
		return // it is ending, or an attempt to join that fails starts another one
	}
	go func() { // of which stop waits for the end
		n.stop() // before the session, or its port would be in use
		n.mu.Lock()
		defer n.mu.Unlock()
		s.end(fmt.Errorf("%w: %s is no address of this machine any more", libcluster.ErrRecordGone, n.transport.address.Addr()))
	}()
}

// look looks once for all seeds that are not here, and for some nodes that are down. It returns
// why seeds were not found.
func (n *node) look(ctx context.Context) error {
	seeds, err := n.seeds(ctx)
	n.mu.Lock()
	here, down := n.records.addresses()
	n.mu.Unlock()
	missing := hostPorts(seeds, append(here, n.transport.port.Addr().String(), n.transport.address.String())...)
	rand.Shuffle(len(down), func(i, j int) { down[i], down[j] = down[j], down[i] })

	trouble := make([]error, len(missing))
	var looking sync.WaitGroup
	for _, address := range down[:min(len(down), lookAtOnce)] {
		looking.Go(func() { _, _ = n.list.Join([]string{address}) })
	}
	for i, address := range missing {
		looking.Go(func() {
			if _, err := n.list.Join([]string{address}); err != nil {
				trouble[i] = n.explain(address, err)
			}
		})
	}
	looking.Wait()
	return errors.Join(append(trouble, err)...)
}

// seeds returns the addresses that the seeds have now.
func (n *node) seeds(ctx context.Context) (seeds []netip.AddrPort, err error) {
	for _, seed := range n.cfg.Seeds {
		resolving, cancel := context.WithTimeout(ctx, dialTimeout)
		all, trouble := n.cfg.resolve(resolving, seed)
		cancel()
		if trouble != nil {
			err = errors.Join(err, fmt.Errorf("seed %s: %w", seed, trouble))
		}
		seeds = append(seeds, all...)
	}
	return seeds, err
}

// explain says why a node was not found. memberlist's errors are texts only.
func (n *node) explain(address string, err error) error {
	if of := errors.Unwrap(err); of != nil {
		err = of // it was one of several addresses, in several lines
	}
	text := strings.TrimPrefix(err.Error(), "failed to join "+address+": ")
	switch {
	case strings.Contains(text, "crypt"):
		return fmt.Errorf("%w (%s)", errSecret, address)
	case strings.Contains(text, "EOF"):
		return fmt.Errorf("%s answers, but is of another cluster than %s, or no gossip", address, n.reg.Cluster())
	}
	return fmt.Errorf("%s does not answer: %s", address, text)
}

// find looks for the seeds, before the first Join. It is an error if all those that answer have
// another secret. If none answers this node may be the first one.
func (n *node) find(ctx context.Context) error {
	looked := make(chan error, 1)
	n.spawn(func() { looked <- n.look(n.ctx) })
	patience := time.NewTimer(seedPatience)
	defer patience.Stop()
	select {
	case err := <-looked:
		n.mu.Lock()
		defer n.mu.Unlock()
		if len(n.records.up()) == 1 && errors.Is(err, errSecret) {
			return err
		}
		return nil
	case <-patience.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
