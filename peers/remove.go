package peers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// attemptTimeout is for one request. What is done after it has passed is seen by the next attempt.
const attemptTimeout = time.Second

// ErrNoMajority is in the errors of [Peers.Remove] if nothing was removed because no majority of
// the peers answers, or perhaps nothing: the answer did not come in time.
var ErrNoMajority = errors.New("no majority of the peers answers")

// Remove removes a peer from the cluster for good, by its ID or its address. The others must
// have been connected for 5 s; Remove waits for that, until ctx ends. The peer's server ends, and
// refuses to start on its old data folder, which must be emptied if the peer shall come back. Take
// the peer out of all lists too, or it enters again.
//
// A peer is not removed if the others that run are too few without it, and the last one is not
// removed at all.
//
// Any instance may call it, also one without a server, whether it has joined or not. For operators
// there is libcluster peers remove.
func (p *Peers) Remove(ctx context.Context, id string) error {
	client, err := p.dial(p.voters)
	if err != nil {
		return fmt.Errorf("peers: remove %q: %w", id, err)
	}
	defer client.Close()
	if err := p.remove(ctx, client, id); err != nil {
		return fmt.Errorf("peers: remove %q: %w", id, err)
	}
	return nil
}

func (p *Peers) remove(ctx context.Context, client *clientv3.Client, id string) error {
	var members *clientv3.MemberListResponse
	err := insist(ctx, func(ctx context.Context) (again bool, err error) {
		members, err = client.MemberList(ctx)
		return true, err
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoMajority, err)
	}
	address := p.addressOf(id)
	var there []string
	for _, m := range members.Members {
		if addressOf(m) == address {
			return whyKept(removeMember(ctx, client, m.ID))
		}
		there = append(there, p.nameOf(addressOf(m)))
	}
	slices.Sort(there)
	return fmt.Errorf("the cluster has no such peer; it has %s", strings.Join(there, ", "))
}

// addressOf returns the address of a peer of which the ID in the list or the address is given.
func (p *Peers) addressOf(id string) string {
	if peer, ok := p.Peer(id); ok {
		return peer.Address
	}
	if address, err := canonical(id); err == nil {
		return address
	}
	return ""
}

// nameOf returns the ID and the address of a peer.
func (p *Peers) nameOf(address string) string {
	for _, peer := range p.all() {
		if peer.Address == address && peer.ID != address {
			return fmt.Sprintf("%s (%s)", peer.ID, address)
		}
	}
	return address
}

// whyKept says why a peer was not removed, if it was not.
func whyKept(err error) error {
	switch told := rpctypes.Error(err); {
	case err == nil:
		return nil
	case errors.Is(told, rpctypes.ErrMemberNotEnoughStarted):
		return errors.New("too few others have started to go on without it. The last peer is not removed: stop it, and empty its data folder")
	case errors.Is(told, rpctypes.ErrUnhealthy):
		return errors.New("too few others run to go on without it, or have been connected for 5 s. Start them, or remove those first that do not run")
	}
	return fmt.Errorf("%w: %w", ErrNoMajority, err)
}

// removeMember waits until the others have been connected for long enough for one to go.
func removeMember(ctx context.Context, client *clientv3.Client, id uint64) error {
	return insist(ctx, func(ctx context.Context) (again bool, err error) {
		_, err = client.MemberRemove(ctx, id)
		told := rpctypes.Error(err)
		if errors.Is(told, rpctypes.ErrMemberNotFound) { // it is removed already
			return false, nil
		}
		return !errors.Is(told, rpctypes.ErrMemberNotEnoughStarted), err
	})
}

// insist tries again what fails, until ctx ends: a server that is being removed fails what another
// one does, and what was on its way to a leader that is being removed is answered by nobody. The
// error is the last from before ctx ended.
func insist(ctx context.Context, try func(context.Context) (again bool, err error)) (last error) {
	for {
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
		again, err := try(attempt)
		cancel()
		if err == nil || !again {
			return err
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		sleep(ctx, enterAgain)
		if ctx.Err() != nil {
			return last
		}
	}
}
