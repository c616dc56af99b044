package sqlstore

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/libcluster/libcluster/kv"
)

var (
	// errAgain is a conflict with another one that this package has found itself.
	errAgain = errors.New("a conflict with another user")
	// errReadOnly is that the server does not write.
	errReadOnly = errors.New("the server is read-only")
	// errNoSpace is that the row of a space is not there.
	errNoSpace = errors.New("the space is not in the database")
)

// faults tell errors apart by the codes of a database. No driver is imported: code finds
// them by the methods, or by the text, of errors.
type faults struct {
	code     func(error) string
	conflict []string // with another transaction: this one has changed nothing
	missing  []string // a table is missing
	exists   []string // a row or a table exists
	readOnly []string // the server, or the session, does not write
	refused  []string // prefixes of those that will not succeed another time either
}

func (l *dialect) is(err error, codes []string) bool {
	if err == nil {
		return false
	}
	code := l.faults.code(err)
	return code != "" && slices.ContainsFunc(codes, func(c string) bool {
		return code == c || strings.Contains(c, " ") && strings.HasPrefix(code, c)
	})
}

func (l *dialect) conflict(err error) bool {
	return errors.Is(err, errAgain) || l.is(err, l.faults.conflict)
}
func (l *dialect) missing(err error) bool { return l.is(err, l.faults.missing) }
func (l *dialect) exists(err error) bool  { return l.is(err, l.faults.exists) }
func (l *dialect) readOnly(err error) bool {
	return errors.Is(err, errReadOnly) || l.is(err, l.faults.readOnly)
}

// refuses reports whether the database will not do it another time either.
func (l *dialect) refuses(err error) bool {
	code := l.faults.code(err)
	return code != "" && slices.ContainsFunc(l.faults.refused, func(c string) bool {
		return l.numbered && strings.HasPrefix(code, c) || code == c || strings.Contains(c, " ") && strings.HasPrefix(code, c)
	})
}

// certain reports whether an error says that nothing was done.
func certain(err error) bool { return errors.Is(err, kv.ErrEnded) || errors.Is(err, kv.ErrRefused) }

// stale reports whether nothing was sent by a connection, which had ended before.
func stale(err error) bool { return errors.Is(err, driver.ErrBadConn) }

// do carries out a call, which ends soon after its context or the life of its space or
// watch has ended: f goes on by itself if the driver is slow to notice. f must not
// write to what the caller reads.
func do[T any](ctx, life context.Context, what string, f func(context.Context) (T, error)) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(life, cancel)()
	ended := make(chan outcome, 1)
	var out outcome
	if life.Err() == nil && ctx.Err() == nil {
		go func() {
			value, err := f(inner)
			ended <- outcome{value, err}
		}()
		select {
		case out = <-ended:
		case <-inner.Done():
			out.err = inner.Err()
		}
	} else {
		out.err = context.Canceled
	}
	if out.err == nil {
		return out.value, nil
	}
	if deadline, is := ctx.Deadline(); is && !time.Now().Before(deadline) {
		<-ctx.Done() // a driver that has a timer of its own may have been first
	}
	switch {
	case certain(out.err), errors.Is(out.err, kv.ErrMissed):
	case life.Err() != nil:
		out.err = kv.ErrClosed
	case ctx.Err() != nil && !errors.Is(out.err, ctx.Err()):
		out.err = fmt.Errorf("%w: %w", ctx.Err(), out.err)
	}
	var none T
	return none, fmt.Errorf("%s: %w", what, out.err)
}

const (
	maxSpace = 800
	maxKey   = 600
	maxValue = 1 << 20
)

// isText reports whether s is printable UTF-8 of at most most bytes.
func isText(s string, most int) bool {
	return len(s) <= most && utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}
