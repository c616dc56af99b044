package libcluster_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

// A front end has to learn where the primary is now, though nothing else of the primary has changed:
// its place is kept, or another process has taken it over.
func TestAddressAndVersionOfAPrimaryThatWasRestartedAreKnown(t *testing.T) {
	inEveryMode(t, func(w *memory, in func(*libcluster.Config)) {
		at := func(address, version string) func(*libcluster.Config) {
			return func(c *libcluster.Config) { c.Address, c.Version = address, version }
		}
		var told membersSeen
		a := w.join("a", in, at("a:1", "1"))
		w.join("b", in, at("b:1", "1"))
		front, hook := w.join("front", in, passive), w.join("hook", in, passive, told.configure)
		known := func(address, version string) {
			w.Helper()
			wait(30 * time.Second)
			for _, x := range []*application{front, hook} {
				p, ok := x.Primary()
				require.True(w, ok, "at %s", x.ID())
				require.Equal(w, []string{"a", address}, []string{p.ID, p.Address}, "at %s", x.ID())
			}
			p, _ := hook.Primary()
			require.Equal(w, version, p.Version)
			require.Equal(w, []string{address, version}, []string{told.of("a").Address, told.of("a").Version})
		}
		known("a:1", "1")
		require.NoError(w, a.Leave(w.Context(), libcluster.Returning(time.Minute)))
		wait(2 * time.Second)
		w.join("a", in, at("a:2", "2"))
		known("a:2", "2")
		w.join("a", in, at("a:3", "3")) // the process before has not left
		known("a:3", "3")
	})
}
