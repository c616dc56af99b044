// Package calls is what stores share: what a request must be like, and calls that end soon
// after their context.
package calls

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/libcluster/libcluster/kv"
)

const (
	maxSpace = 800
	maxKey   = 600
	maxValue = 1 << 20

	// moment is how long a call that was late may take to tell what it has waited for.
	moment = 20 * time.Millisecond
)

// Certain reports whether an error says that nothing was done.
func Certain(err error) bool { return errors.Is(err, kv.ErrEnded) || errors.Is(err, kv.ErrRefused) }

// Do carries out a call, which ends soon after its context or the life of its space or
// watch has ended: f goes on by itself if what it calls is slow to notice. f must not
// write to what the caller reads.
func Do[T any](ctx, life context.Context, what string, f func(context.Context) (T, error)) (T, error) {
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
			if !errors.Is(out.err, context.DeadlineExceeded) {
				break // nobody asks for what it has waited
			}
			over := time.NewTimer(moment)
			defer over.Stop()
			select {
			case out = <-ended:
			case <-over.C:
			}
		}
	} else {
		out.err = context.Canceled
	}
	if out.err == nil {
		return out.value, nil
	}
	if deadline, is := ctx.Deadline(); is && !time.Now().Before(deadline) {
		<-ctx.Done() // what has a timer of its own may have been first
	}
	switch {
	case Certain(out.err), errors.Is(out.err, kv.ErrMissed):
	case life.Err() != nil:
		out.err = kv.ErrClosed
	case ctx.Err() != nil && !errors.Is(out.err, ctx.Err()):
		out.err = fmt.Errorf("%w: %w", ctx.Err(), out.err)
	}
	var none T
	return none, fmt.Errorf("%s: %w", what, out.err)
}

// CheckSpace returns why no space has that name.
func CheckSpace(name string) error {
	if name == "" || !isText(name, maxSpace) {
		return fmt.Errorf("a space's name is 1 to %d bytes of printable UTF-8", maxSpace)
	}
	return nil
}

// CheckTx returns why no store takes a transaction.
func CheckTx(tx kv.Tx) error {
	keys := map[string]bool{}
	once := func(key string) error {
		if !isText(key, maxKey) {
			return fmt.Errorf("a key is at most %d bytes of printable UTF-8", maxKey)
		}
		if keys[key] {
			return errors.New("a key is there twice")
		}
		keys[key] = true
		return nil
	}
	for _, r := range tx.Put {
		if err := once(r.Key); err != nil {
			return err
		}
		if len(r.Value) > maxValue {
			return fmt.Errorf("a value is at most %d bytes", maxValue)
		}
	}
	for _, key := range tx.Delete {
		if err := once(key); err != nil {
			return err
		}
	}
	return nil
}

// isText reports whether s is printable UTF-8 of at most most bytes.
func isText(s string, most int) bool {
	return len(s) <= most && utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// Hand hands records over until there is an error.
func Hand(records []kv.Record, each func(kv.Record) error) error {
	for _, r := range records {
		if err := each(r); err != nil {
			return err
		}
	}
	return nil
}
