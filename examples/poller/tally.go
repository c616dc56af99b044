package main

import (
	"context"
	"fmt"
	"sync"
)

// tally knows who polls each account, and counts what a change does to them.
type tally struct {
	accounts []string
	changed  chan struct{} // has something if there is something new

	mu      sync.Mutex // guards what follows
	of      map[string]*account
	polled  map[string]int // accounts by poller
	moved   int            // begun by another poller than before
	inVain  int            // begun again by the same
	doubled int            // begun while another poller had not ended: never
}

type account struct {
	poller string // the latest
	polled bool
}

func newTally(accounts int) *tally {
	t := &tally{changed: make(chan struct{}, 1), of: make(map[string]*account), polled: make(map[string]int)}
	for n := range accounts {
		name := fmt.Sprintf("account-%d", n)
		t.accounts = append(t.accounts, name)
		t.of[name] = new(account)
	}
	return t
}

// begin notes that a poller begins to poll accounts.
func (t *tally) begin(poller string, accounts []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range accounts {
		a := t.of[name]
		switch {
		case a.polled:
			t.doubled++
		case a.poller == poller:
			t.inVain++
		default:
			t.moved++
		}
		a.poller, a.polled = poller, true
		t.polled[poller]++
	}
	t.news()
}

// end notes that nobody polls accounts any more.
func (t *tally) end(accounts []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range accounts {
		a := t.of[name]
		a.polled = false
		t.polled[a.poller]--
	}
	t.news()
}

func (t *tally) news() {
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

// reset begins to count anew.
func (t *tally) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.moved, t.inVain = 0, 0
}

// counts returns how many accounts have moved, and how many were stopped in vain.
func (t *tally) counts() (moved, inVain int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.moved, t.inVain
}

// await waits until so many pollers poll all accounts between them.
func (t *tally) await(ctx context.Context, pollers int) error {
	for {
		whole, err := t.whole(pollers)
		if whole || err != nil {
			return err
		}
		select {
		case <-t.changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// whole reports whether each account is polled, and each poller has about its share.
func (t *tally) whole(pollers int) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.doubled > 0 {
		return false, fmt.Errorf("%d accounts were polled by two at once", t.doubled)
	}
	sum, large := 0, 0
	for _, n := range t.polled {
		sum += n
		if 4*n > 3*len(t.accounts)/pollers {
			large++
		}
	}
	return sum == len(t.accounts) && large == pollers, nil
}
