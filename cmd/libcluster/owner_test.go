package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

func TestOwnerIsWhoseStateOwnsTheKey(t *testing.T) {
	t.Parallel()
	for _, mode := range []libcluster.Mode{libcluster.ModePlanned, libcluster.ModeCooperative} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			args := []string{"-k", key(t), "-r", etcdURL(t)}
			all := []*libcluster.Cluster{joined(t, mode, "a", 2, args...), joined(t, mode, "b", 1, args...), joined(t, mode, "c", 1, args...)}
			require.Eventually(t, func() bool {
				c, err := all[0].Coverage(t.Context())
				return err == nil && c.Covered && len(c.Assignments) == 3 && len(c.Problems) == 0
			}, patience, time.Millisecond)
			for n := range 6 {
				account := fmt.Sprint("account-", n)
				var o owned
				require.NoError(t, json.Unmarshal([]byte(printed(t, append(args, "owner", account, "-o", "json")...)), &o))
				for _, c := range all {
					require.Equal(t, c.ID() == o.Owner.ID, c.State().Owns(account), "%s of %s, %+v", account, c.ID(), o)
				}
				require.True(t, all[o.Owner.ID[0]-'a'].State().Holds(o.Slot))
			}
		})
	}
}

func TestOwnerIsShownWithItsAddressAndIndex(t *testing.T) {
	args := []string{"owner", "account-42", "-k", key(t), "-r", etcdURL(t)}
	status, text := failing(t, args...)
	require.Equal(t, exitFailed, status)
	require.Equal(t, "libcluster: the cluster has no members\n", text)

	put(t, "node1", `{"workers":1,"address":"10.0.0.1:80","version":"1.2"}`)
	require.Equal(t, "owner  address      index  of\nnode1  10.0.0.1:80      0   1\n", printed(t, args...))
	require.Equal(t, "owner  address      version  index  of\nnode1  10.0.0.1:80  1.2          0   1\n", printed(t, append(args, "-o", "wide")...))
}

func TestOwnerNeedsOneKey(t *testing.T) {
	for arguments, want := range map[string]string{"": "needs a KEY", "a b": `unexpected argument "b"`} {
		status, text := failing(t, append([]string{"owner", "-k", "m", "-r", "http://h"}, strings.Fields(arguments)...)...)
		require.Equal(t, exitUsage, status)
		require.Equal(t, "libcluster: "+want+"; try 'libcluster owner --help'\n", text)
	}
}

func TestCheckTellsByItsStatusWhetherAllIsHeld(t *testing.T) {
	args := []string{"check", "-k", key(t), "-r", etcdURL(t)}
	check := func(t *testing.T, want int, says string) {
		t.Helper()
		p := start(t, args...)
		require.Equal(t, want, p.Ends(t), "%s%s", p.Stdout, p.Stderr)
		require.Contains(t, p.Stdout.String(), says)
		if want == 0 {
			require.Empty(t, p.Stderr.String())
		} else {
			require.Equal(t, "libcluster: the cluster is not covered\n", p.Stderr.String())
		}
	}
	check(t, exitFailed, "nobody: the cluster has no members")
	a, b := instance(t, "a", libcluster.ModePlanned, nil), instance(t, "b", libcluster.ModePlanned, nil)
	require.NoError(t, a.Join(t.Context()))
	require.NoError(t, b.Join(t.Context()))
	check(t, 0, "covered: every index is held once\n")
	leave(t, b, libcluster.Returning(time.Minute))
	check(t, exitFailed, "not covered:\n  reserved, index 1, b: ")

	var c covered
	p := start(t, append(args, "-o", "json")...)
	require.Equal(t, exitFailed, p.Ends(t))
	require.NoError(t, json.Unmarshal([]byte(p.Stdout.String()), &c))
	require.False(t, c.Covered)
	require.Len(t, c.Problems, 1)
}
