package main

import (
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zapcore"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/testcommand"
)

// detailed has an instance join that publishes all that there is.
func detailed(t *testing.T, mode libcluster.Mode) *libcluster.Cluster {
	t.Helper()
	c, err := libcluster.New(libcluster.Config{
		Key: key(t), ID: "a", Mode: mode, Registry: libcluster.Etcd(etcdURL(t)),
		Address: "10.0.0.1:80", Version: "1.2", Metadata: map[string]string{"zone": "east"},
	})
	require.NoError(t, err)
	t.Cleanup(func() { leave(t, c) })
	require.NoError(t, c.Join(t.Context()))
	return c
}

// With a plan members do not watch each other, and who looks at them has to ask for it.
func TestVersionsAndMetadataAreSeenInEveryMode(t *testing.T) {
	for _, mode := range []libcluster.Mode{
		libcluster.ModeDirect, libcluster.ModePlanned, libcluster.ModeExclusive, libcluster.ModeCooperative,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			a := detailed(t, mode)
			require.Regexp(t, `(?m)^a +10\.0\.0\.1:80 +1\.2 +zone=east `, ls(t, "-o", "wide"))
			var c census
			require.NoError(t, json.Unmarshal([]byte(ls(t, "-o", "json")), &c))
			require.Equal(t, "1.2", c.Members[0].Version)
			require.Equal(t, map[string]string{"zone": "east"}, c.Members[0].Metadata)
			require.Regexp(t, `(?m)^a +10\.0\.0\.1:80 +1\.2 +zone=east `, printed(t, "owner", "-k", key(t), "-r", etcdURL(t), "-o", "wide", "x"))

			watch := start(t, "watch", "-k", key(t), "-r", etcdURL(t), "-o", "wide")
			watch.Stdout.AwaitText(t, "zone=east")
			p, url := served(t)
			require.NoError(t, a.SetMetadata(t.Context(), map[string]string{"zone": "west"}))
			watch.Stdout.AwaitText(t, "zone=west")
			require.Eventually(t, func() bool {
				status, text := get(t, url+"v1/members", "")
				var body struct {
					Members []struct {
						Version  string
						Metadata map[string]string
					}
				}
				return status == http.StatusOK && json.Unmarshal([]byte(text), &body) == nil && len(body.Members) == 1 &&
					body.Members[0].Version == "1.2" && body.Members[0].Metadata["zone"] == "west"
			}, patience, 10*time.Millisecond)
			for _, one := range []*testcommand.Running{watch, p} {
				one.Signal()
				require.Zero(t, one.Ends(t))
			}
		})
	}
}

func TestWhatATableDoesNotShowIsNotWatched(t *testing.T) {
	for format, watched := range map[string]bool{"table": false, "wide": true, "json": true} {
		command := &cobra.Command{}
		f := addFlags(pflag.NewFlagSet("test", pflag.ContinueOnError))
		command.Flags().AddFlagSet(f.FlagSet)
		x := &looker{looking: newPrinting(f, command), stderr: zapcore.AddSync(io.Discard)}
		require.NoError(t, command.ParseFlags([]string{"-k", "m", "-r", "http://127.0.0.1:1", "-o", format}))
		require.NoError(t, x.open(t.Context(), command))
		require.Equal(t, watched, x.cluster.Config().WatchMembers, format)
	}
}
