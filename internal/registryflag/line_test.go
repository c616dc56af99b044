package registryflag

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// A driver tells of each address in a line of its own.
func TestErrorOfSeveralLinesIsToldInOne(t *testing.T) {
	err := errors.New("libcluster: failed to connect to `user=a`:\n\t127.0.0.1:1: refused\r\n\t[::1]:1: refused\nand more")
	require.Equal(t, "failed to connect to `user=a`: 127.0.0.1:1: refused; [::1]:1: refused; and more", OneLine(err))
}
