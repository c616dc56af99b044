package sqlstore

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"

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
	conflict []string          // with another transaction: this one has changed nothing
	missing  []string          // a table is missing
	exists   []string          // a row or a table exists
	readOnly []string          // the server, or the session, does not write
	refused  []string          // prefixes of those that will not succeed another time either
	advice   map[string]string // what is to be done, of those that do not say it well
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

// refusal tells why the database will not do it, and maybe what is to be done.
func (l *dialect) refusal(err error) error {
	if advice := l.faults.advice[l.faults.code(err)]; advice != "" {
		return fmt.Errorf("%w: %w: %s", kv.ErrRefused, err, advice)
	}
	return fmt.Errorf("%w: %w", kv.ErrRefused, err)
}

// stale reports whether nothing was sent by a connection, which had ended before.
func stale(err error) bool { return errors.Is(err, driver.ErrBadConn) }
