package testcommand

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/libcluster/libcluster/internal/testetcd"
)

// Terminal is one at which a test types.
type Terminal struct {
	// Keys is where the test types and sees what is shown; Program is for the program.
	Keys, Program *os.File
}

// NewTerminal returns a terminal, until the test ends.
func NewTerminal(t testing.TB) Terminal {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { keys.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	program, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { program.Close() })
	return Terminal{keys, program}
}

// RequireEcho waits until what is typed is shown, or not.
func (x Terminal) RequireEcho(t testing.TB, want bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		settings, err := unix.IoctlGetTermios(int(x.Program.Fd()), unix.TCGETS)
		require.NoError(t, err)
		return settings.Lflag&unix.ECHO != 0 == want
	}, testetcd.Patience, time.Millisecond)
}
