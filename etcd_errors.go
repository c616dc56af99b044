//go:build !wasm

package libcluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// recordError finds the one answer that proves the lease, and so the record, to
// be gone. Every other error leaves that open.
func recordError(err error) error {
	if errors.Is(rpctypes.Error(err), rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("%w: the lease has expired", ErrRecordGone)
	}
	return err
}

// refusals are the codes by which etcd says that it has looked at a request and will
// never carry it out. All others say how etcd is at the moment: without a leader,
// overloaded, full, not ready, being stopped. Some of these come without a code of
// their own, as "raft: stopped" does.
var refusals = []codes.Code{
	codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied,
	codes.OutOfRange, codes.Unimplemented, codes.Unauthenticated,
}

// isRefusal reports whether it is no use to send the request again. It is the one
// place where that is decided, for joining, updating and leaving.
func isRefusal(err error) bool {
	if isFinal(err) || errors.As(err, new(*tooLargeError)) {
		return true
	}
	if errors.Is(err, rpctypes.ErrInvalidAuthToken) || errors.Is(err, rpctypes.ErrAuthOldRevision) {
		return false // a log-in that has expired, and is made again
	}
	code := status.Code(err)
	var known rpctypes.EtcdError
	if errors.As(err, &known) {
		code = known.Code()
	}
	return slices.Contains(refusals, code)
}

// patiently repeats a request until it has succeeded or was refused, or ctx ends. A
// server may be frozen, or the leader just have changed, and the next request goes
// to another server. The request must be one that may be carried out twice.
func (s *etcdSession) patiently(ctx context.Context, request func(context.Context) error) error {
	var again retry
	for {
		attempt, cancel := context.WithTimeout(ctx, s.timeout)
		sent := time.Now()
		err := request(attempt)
		hung := attempt.Err() != nil
		cancel()
		if err == nil || isRefusal(err) || ctx.Err() != nil || s.ctx.Err() != nil || s.client.Ctx().Err() != nil {
			return err
		}
		if hung {
			again = retry{} // it has waited enough
		} else if d := again.next() - time.Since(sent); !sleep(ctx, d) {
			return err
		}
	}
}
