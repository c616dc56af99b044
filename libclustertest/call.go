package libclustertest

import (
	"context"
	"maps"
	"slices"
)

// Op is what a call asks for.
type Op string

// The calls that an instance makes: [libcluster.Membership]'s Join and what
// [libcluster.Session] has.
const (
	OpJoin   Op = "join"
	OpNext   Op = "next"
	OpRenew  Op = "renew"
	OpUpdate Op = "update"
	OpLeave  Op = "leave"

	// Besides, an attempt to join begins a lease, and ends its own if it has failed, or
	// that of the incarnation before; and in mode direct a Next that has missed something
	// lists the members, and with it writes its record again. The request of OpJoin does not
	// wait for that of OpOpen: if it comes first it fails without an effect, and is sent again.
	OpOpen Op = "open"
	OpEnd  Op = "end"
	OpList Op = "list"

	// What [libcluster.Planner] has besides: all but the first two are of clusters with a
	// plan.
	OpLook        Op = "look"
	OpSetDraining Op = "set draining"
	OpSurvey      Op = "survey"
	OpClaim       Op = "claim"
	OpSwap        Op = "swap"
	OpAcknowledge Op = "acknowledge"
)

// Call is one call of one instance, as an interceptor sees it.
type Call struct {
	Op Op
	// Cluster is KEY/ENV or KEY/PARTITION/ENV, and ID the instance.
	Cluster, ID string

	send func(context.Context) error
}

// of is the call of an op.
func (c Call) of(op Op) Call {
	c.Op = op
	return c
}

// Send lets the call have its effect and returns the error that the caller
// should get. For [OpNext] it waits until there is a change. It may be called
// any number of times, also after the interceptor has returned: a request that
// arrives late, or twice, has its effect as it would have on a server. The
// answer that the caller gets is the latest.
func (c Call) Send(ctx context.Context) error { return c.send(ctx) }

// Intercept has f called for each call of each instance, in place of the call,
// from now on. Of a call that changes something it is called for each request: mostly
// that is one, and another if its outcome is unknown. What f returns the caller gets: an
// error, or the answer if it is nil, and then f must have called [Call.Send] successfully.
// A nil f ends it. Calls that have begun already are left alone.
//
// To let a request fail, return an error. To delay it, wait before Send; to
// delay the answer, wait after it. To lose the answer of something that did
// happen, Send and wait for the end of ctx:
//
//	registry.Intercept(func(ctx context.Context, call libclustertest.Call) error {
//		err := call.Send(ctx)
//		if call.Op == libclustertest.OpRenew && call.ID == "a" {
//			<-ctx.Done()
//			return context.Cause(ctx)
//		}
//		return err
//	})
//
// f runs in the goroutine of the caller, several at the same time if there are
// several callers. It may use the registry.
func (r *Registry) Intercept(f func(ctx context.Context, call Call) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.intercept = f
}

// Cut cuts the instance off, in every cluster: its calls hang until their
// context ends, those under way too, and no change reaches it. Its lease runs
// out meanwhile. An answer that is under way is held up.
func (r *Registry) Cut(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut[id] == nil {
		r.cut[id] = make(chan struct{})
	}
}

// Heal ends a [Registry.Cut] of the instance. Calls that still hang go on.
func (r *Registry) Heal(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if healed := r.cut[id]; healed != nil {
		close(healed)
		delete(r.cut, id)
	}
}

// CutAll cuts everybody off, who is there and who comes, as if the registry
// were gone. Leases run out by the clock nevertheless.
func (r *Registry) CutAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.allCut == nil {
		r.allCut = make(chan struct{})
	}
}

// HealAll ends [Registry.CutAll] and every [Registry.Cut].
func (r *Registry) HealAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(r.cut)) {
		close(r.cut[id])
	}
	clear(r.cut)
	if r.allCut != nil {
		close(r.allCut)
		r.allCut = nil
	}
}

// pass waits until the instance is not cut off.
func (r *Registry) pass(ctx context.Context, id string) error {
	for {
		r.mu.Lock()
		healed := r.cut[id]
		if healed == nil {
			healed = r.allCut
		}
		r.mu.Unlock()
		if healed == nil {
			return nil
		}
		select {
		case <-healed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// none is the answer of a call that has none.
type none struct{}

// exchange is the way of every call: request, effect, answer, each of which may
// meet a fault. The effect may happen without the caller learning of it, and
// learns of an error only by an answer too.
func exchange[T any](ctx context.Context, r *Registry, call Call, effect func(context.Context) (T, error)) (T, error) {
	var (
		zero, answer T
		answered     bool
	)
	if ctx.Err() != nil {
		return zero, context.Cause(ctx)
	}
	call.send = func(ctx context.Context) error {
		got, err := effect(ctx)
		if err == nil {
			r.mu.Lock()
			answer, answered = got, true
			r.mu.Unlock()
		}
		return err
	}
	if err := r.pass(ctx, call.ID); err != nil {
		return zero, err
	}
	r.mu.Lock()
	intercept := r.intercept
	r.mu.Unlock()
	var err error
	if intercept != nil {
		err = intercept(ctx, call)
	} else {
		err = call.send(ctx)
	}
	if cutOff := r.pass(ctx, call.ID); cutOff != nil {
		return zero, cutOff
	}
	if err != nil {
		return zero, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !answered {
		panic("libclustertest: the interceptor let " + string(call.Op) + " of " + call.ID + " succeed without Send")
	}
	return answer, nil
}
