package libcluster_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

// escapes clear a terminal, colour it, and forge a line of a log.
const escapes = "\x1b[2J\u009b31m\x7f\r\nERROR \xff"

// plain wants nothing in a text but what can be printed.
func (w *memory) plain(text string) {
	w.Helper()
	for _, r := range text {
		require.True(w, unicode.IsPrint(r), "%q in %q", r, text)
	}
}

// What a registry says may come from a server that is not ours.
func TestWhatARegistrySaysIsQuotedInErrorsAndInTheLog(t *testing.T) {
	for _, m := range rangeModes {
		t.Run(m.String(), func(t *testing.T) {
			inMemory(t, func(w *memory) {
				core, logs := observer.New(zap.DebugLevel)
				logged := func(c *libcluster.Config) { c.Logger = zap.New(core) }
				fails := func(_ context.Context, call libclustertest.Call) error {
					return fmt.Errorf("%s: %s", call.Op, escapes)
				}
				a := w.join("a", mode(m), logged)
				wait(time.Second)
				w.Intercept(fails)
				_, err := a.Coverage(w.within(time.Second))
				w.plain(err.Error())
				err = a.SetWorkers(w.within(time.Second), 2)
				w.plain(err.Error())
				wait(time.Minute)
				w.plain(a.Err().Error())
				b := w.app("b", mode(m), logged)
				err = b.Join(w.within(5 * time.Second))
				w.plain(err.Error())
				require.ErrorContains(w, err, `open: \x1b[2J`)
				err = a.Leave(w.within(5 * time.Second))
				w.plain(err.Error())
				w.Intercept(func(context.Context, libclustertest.Call) error {
					return libcluster.Permanent(errors.New(escapes))
				})
				err = b.Join(w.within(5 * time.Second))
				w.plain(err.Error())
				w.Intercept(nil)
				synctest.Wait()
				require.NotEmpty(w, logs.All())
				for _, line := range logs.All() {
					w.plain(line.Message)
					for _, value := range line.ContextMap() {
						w.plain(fmt.Sprint(value))
					}
				}
			})
		})
	}
}
