//go:build !wasm

package etcd

import (
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/libcluster/libcluster/kv"
)

// explained returns an error of etcd's as what it is to users of a space.
func (s *Space) explained(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(rpctypes.Error(err), rpctypes.ErrLeaseNotFound):
		return fmt.Errorf("%w: %w", kv.ErrEnded, err)
	case s.ctx.Err() != nil, s.Client.Ctx().Err() != nil:
		return fmt.Errorf("%w: %w", kv.ErrClosed, err)
	case isRefusal(err):
		return &refusal{err}
	}
	return err
}

// refusal is an error of etcd's after which it is no use to send the request again.
type refusal struct{ err error }

func (e *refusal) Error() string        { return e.err.Error() }
func (e *refusal) Unwrap() error        { return e.err }
func (e *refusal) Is(target error) bool { return target == kv.ErrRefused }

// refusals are the codes by which etcd says that it has looked at a request and will
// never carry it out. All others say how etcd is at the moment: without a leader,
// overloaded, full, not ready, being stopped. Some of these come without a code of
// their own, as "raft: stopped" does.
var refusals = []codes.Code{
	codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied,
	codes.OutOfRange, codes.Unimplemented, codes.Unauthenticated,
}

func isRefusal(err error) bool {
	err = rpctypes.Error(err)
	if errors.Is(err, rpctypes.ErrInvalidAuthToken) || errors.Is(err, rpctypes.ErrAuthOldRevision) {
		return false // a log-in that has expired, and is made again
	}
	code := status.Code(err)
	var known rpctypes.EtcdError
	if errors.As(err, &known) {
		code = known.Code()
	}
	return slices.Contains(refusals, code) || errors.Is(err, rpctypes.ErrLeaseExist)
}
