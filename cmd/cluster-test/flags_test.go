package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/testcommand"
)

// checkUsage holds the text of --help, which is written by hand, to the flags.
func checkUsage(t *testing.T, text string, set *pflag.FlagSet) {
	t.Helper()
	set.VisitAll(func(flag *pflag.Flag) {
		start := "\n      --" + flag.Name
		if flag.Shorthand != "" {
			start = "\n  -" + flag.Shorthand + ", --" + flag.Name
		}
		_, entry, found := strings.Cut(text, start)
		require.True(t, found, "--help does not explain --%s", flag.Name)
		entry, _, _ = strings.Cut(entry, "\n  -")
		entry, _, _ = strings.Cut(entry, "\n      --")
		if d := flag.DefValue; d != "" && d != "false" && flag.Name != "nodes" {
			require.Contains(t, strings.Join(strings.Fields(entry), " "), "(default: "+d, "--%s", flag.Name)
		}
	})
	for line := range strings.Lines(text) {
		require.LessOrEqual(t, len([]rune(strings.TrimSuffix(line, "\n"))), 80, line)
	}
}

func TestCommandsOfTheDocumentsExist(t *testing.T) {
	for _, args := range testcommand.OfDocuments(t, "../..", program) {
		f := newFlags()
		require.NoError(t, f.Parse(args), "%q", args)
		require.Zero(t, f.NArg(), "%q: %s is none of its commands", args, f.Arg(0))
	}
}

func TestBadCommandLineIsToldInOneLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, []byte("no certificate"), 0o600))
	missing := filepath.Join(t.TempDir(), "missing")

	for _, c := range []struct {
		args string   // separated by spaces; '' is an empty one
		says []string // the flag and the value, and what is wrong or to do
	}{
		{"--foo", []string{`"--foo"`}},
		{"--foo=bar", []string{`"--foo"`}},
		{"-z", []string{`"-z"`}},
		{"---x", []string{`"---x"`}},
		{"foo", []string{`"foo"`}},
		{"-k", []string{"-k/--key", "needs a value"}},
		{"--json=maybe", []string{"--json", `"maybe"`}},

		{"-k a/b", []string{"-k/--key", `"a/b"`, "'/'"}},
		{"-k ''", []string{"-k/--key", "empty"}},
		{"-e a/b", []string{"-e/--env", `"a/b"`}},
		{"-e ''", []string{"-e/--env", "empty"}},
		{"-p a/b", []string{"-p/--partition", `"a/b"`}},
		{"-p ''", []string{"-p/--partition", "empty"}},
		{"-i a/b", []string{"-i/--instance", `"a/b"`}},
		{"-i ''", []string{"-i/--instance", "empty"}},
		{"-i a\nb", []string{"-i/--instance", `"a\nb"`}},
		{"-i " + strings.Repeat("x", 256), []string{"-i/--instance", "256 bytes", "255"}},
		{"-r http://h --nodes 9 -i " + strings.Repeat("x", 255), []string{"-i/--instance", "256 bytes"}},

		{"-n 0", []string{"-n/--threads", `"0"`}},
		{"-n -1", []string{"-n/--threads", `"-1"`}},
		{"-n x", []string{"-n/--threads", `"x"`}},
		{"-n 1.5", []string{"-n/--threads", `"1.5"`}},
		{"-n 2147483648 -T 2147483647", []string{"-n/--threads", `"2147483648"`, "2147483647"}},
		{"-n 99999999999999999999", []string{"-n/--threads", `"99999999999999999999"`}},
		{"-n 4", []string{"-n/--threads", `"4"`, "give -T/--total"}},
		{"-n 2,1", []string{"-n/--threads", `"2,1"`, "--nodes 2"}},
		{"-r embedded: --nodes 3 -n 2,1", []string{"-n/--threads", `"2,1"`, "--nodes 3"}},
		{"-r embedded: --nodes 2 -n 2,1,4", []string{"-n/--threads", `"2,1,4"`, "--nodes 2"}},
		{"-r embedded: --nodes 2 -n 2,", []string{"-n/--threads", `"2,"`}},
		{"-r embedded: --nodes 2 -n 2147483647", []string{"-n/--threads", `"2147483647"`, "all together"}},
		{"-r embedded: --nodes 0", []string{"--nodes 0", "1 to 1000"}},
		{"-r embedded: --nodes 1001", []string{"--nodes 1001", "1 to 1000"}},
		{"-r embedded: --nodes x", []string{"--nodes", `"x"`}},
		{"--nodes 2", []string{"--nodes 2", "-r/--registry"}},
		{"--nodes 2 --static-env", []string{"--nodes 2", "-r/--registry"}},

		{"-T 0", []string{"-T/--total 0"}},
		{"-T -3", []string{"-T/--total -3"}},
		{"-T 2147483648", []string{"-T/--total 2147483648", "2147483647"}},
		{"-T x", []string{"-T/--total", `"x"`}},
		{"-I -1", []string{"-I/--index -1"}},
		{"-I 1", []string{"-I/--index 1", "-T/--total"}},
		{"-I 7 -T 7", []string{"-I/--index 7", "7"}},
		{"-I 6 -n 2 -T 7", []string{"-I/--index 6", `"2"`, "at least 8"}},
		{"-r embedded: -I 0", []string{"-I/--index 0", "-r/--registry"}},
		{"-r embedded: -T 7", []string{"-T/--total 7", "-r/--registry"}},
		{"-r embedded: --static-env", []string{"--static-env", "-r/--registry"}},
		{"--static-env -I 1", []string{"-I/--index 1", "--static-env"}},
		{"--static-env", []string{"--static-env", "LIBCLUSTER_INDEX"}},
		{"-P", []string{"-P/--passive", "-r/--registry"}},
		{"-P -r embedded: -n 2", []string{"-n/--threads", `"2"`, "-P/--passive"}},

		{"-r localhost:2379", []string{"-r/--registry", "did you mean http://localhost:2379"}},
		{"-r [::1]:2379", []string{"-r/--registry", "did you mean http://[::1]:2379"}},
		{"--ttl 5 -r http://h", []string{"--ttl", `"5"`, "10s"}},
		{"--ttl 0s -r http://h", []string{"--ttl 0s"}},
		{"--ttl -5s -r http://h", []string{"--ttl -5s"}},
		{"--ttl 5ms -r http://h", []string{"--ttl 5ms", "1s"}},
		{"--ttl 25h -r http://h", []string{"--ttl 25h", "24h"}},
		{"--ttl 10s", []string{"--ttl 10s", "-r/--registry"}},
		{"--mode foo -r http://h", []string{"--mode", `"foo"`, "direct, planned, exclusive or cooperative"}},
		{"--mode planned", []string{"--mode planned", "-r/--registry"}},
		{"--exclusive", []string{"--exclusive", "-r/--registry"}},
		{"--exclusive --mode planned -r http://h", []string{"--exclusive", "--mode planned"}},
		{"--work 5 -r http://h", []string{"--work", `"5"`, "10s"}},
		{"--work -1s -r http://h", []string{"--work -1s", "negative"}},
		{"--work 1s -P -r http://h", []string{"--work 1s", "-P/--passive"}},
		{"--returning 10s -i a", []string{"--returning 10s", "-r/--registry"}},
		{"--returning 10s -r http://h", []string{"--returning 10s", "-i/--instance"}},
		{"--returning 10s -r http://h -i a -P", []string{"--returning 10s", "-P/--passive"}},
		{"--returning -1s -r http://h -i a", []string{"--returning -1s", "0s to 24h"}},
		{"--returning 25h -r http://h -i a", []string{"--returning 25h", "0s to 24h"}},

		{"-r ''", []string{"-r/--registry", "empty"}},
		{"-r h:2379", []string{"-r/--registry", `"h:2379"`, "embedded:PORT/DIR"}},
		{"-r redis://h", []string{"-r/--registry", `"redis://h"`, "embedded:PORT/DIR"}},
		{"-r http://", []string{"-r/--registry", `"http://"`, "no host"}},
		{"-r http://h,", []string{"-r/--registry", "no host"}},
		{"-r http://h/path", []string{"-r/--registry", `"http://h/path"`}},
		{"-r http://h:x", []string{"-r/--registry", `"http://h:x"`}},
		{"-r http://h:0", []string{"-r/--registry", `"http://h:0"`, "65535"}},
		{"-r http://h:65536", []string{"-r/--registry", `"http://h:65536"`, "65535"}},
		{"-r http://a,https://b", []string{"-r/--registry", "all must be http"}},
		{"-r embedded", []string{"-r/--registry", `"embedded"`, "embedded:,"}},
		{"-r embedded:x", []string{"-r/--registry", `"embedded:x"`, "65535"}},
		{"-r embedded:0", []string{"-r/--registry", `"embedded:0"`, "65535"}},
		{"-r embedded:70000", []string{"-r/--registry", `"embedded:70000"`, "65535"}},
		{"-r embedded:2379/", []string{"-r/--registry", `"embedded:2379/"`, "no folder"}},
		{"-r embedded:/dir", []string{"-r/--registry", `"embedded:/dir"`, "embedded:2379/DIR"}},
		{"-r embedded://", []string{"-r/--registry", `"embedded://"`, "embedded:2379/DIR"}},

		{"--cacert " + file, []string{"--cacert", file, "-r/--registry"}},
		{"--cacert " + file + " -r http://h", []string{"--cacert", file, "https"}},
		{"--cacert " + file + " -r embedded:", []string{"--cacert", file, "embedded"}},
		{"--cacert " + missing + " -r https://h", []string{"--cacert", missing}},
		{"--cacert " + file + " -r etcd://h", []string{"CACert", file, "PEM"}},
		{"--cert " + file + " -r https://h", []string{"--cert", file, "--cert-key"}},
		{"--cert-key " + file + " -r https://h", []string{"--cert-key", file, "give --cert"}},
		{"--cert " + file + " --cert-key " + file + " -r https://h", []string{"Cert " + file, "PEM"}},
		{"--user root:secret", []string{"--user", "-r/--registry"}},
		{"--user root -r http://h", []string{"--user", `"root"`, "LIBCLUSTER_PASSWORD"}},
		{"--user root: -r http://h", []string{"--user", `"root"`, "LIBCLUSTER_PASSWORD"}},
		{"--user :secret -r http://h", []string{"--user", "no user"}},
		{"--user root:secret -r embedded:", []string{"--user", "embedded"}},
		{"--usr=root:secret -r http://h", []string{`"--usr"`}},
		{"---user=root:secret -r http://h", []string{`"---user"`}},
		{"-uroot:secret -r http://h", []string{`"-u"`}},
		{"-r http://root:secret@h", []string{"-r/--registry", "--user"}},
		{"-r postgres://root:secret@h", []string{"-r/--registry", "postgres://USER:PASSWORD@HOST"}},
		{"-r postgres://root:secret@h:port/db", []string{"-r/--registry", "postgres://USER:PASSWORD@HOST"}},
		{"-r postgres://root:secret@h/db?sslmode=secret", []string{"-r/--registry", "pgx"}},
		{"-r postgres://root:secret@h/db -I 1", []string{"-r/--registry"}},
		{"-r postgres://root:secret@h/db --cacert file", []string{"--cacert", "sslrootcert"}},
		{"-r postgres://root@h/db --user root:secret", []string{"-r/--registry", "--user"}},
		{"-r MySQL://root:secret@h/", []string{"-r/--registry", "mysql://USER:PASSWORD@HOST"}},
		{"-r mysql://root:secret@h/db?tls=secret", []string{"-r/--registry", "driver"}},
		{"-r redis://root:secret@h", []string{"-r/--registry", "--user"}},
	} {
		t.Run(c.args, func(t *testing.T) {
			args := strings.Split(c.args, " ")
			for i, arg := range args {
				args[i] = strings.ReplaceAll(arg, "''", "")
			}
			var stdout, stderr bytes.Buffer
			require.Equal(t, exitUsage, run(t.Context(), args, &stdout, &stderr))
			require.Empty(t, stdout.String())
			require.Regexp(t, `^cluster-test: [^\n]+; try 'cluster-test --help'\n$`, stderr.String())
			require.NotContains(t, stderr.String(), "secret")
			for _, want := range c.says {
				require.Contains(t, stderr.String(), want)
			}
		})
	}
}

func TestThreadsAndNumbersForSeveralNodes(t *testing.T) {
	o, err := parse(t.Context(), strings.Fields("-r http://h --nodes 3 -n 2,1,4 -i node"))
	require.NoError(t, err)
	require.Equal(t, []int{2, 1, 4}, o.threads)
	require.Equal(t, []string{"node1", "node2", "node3"}, []string{o.id(0), o.id(1), o.id(2)})

	o, err = parse(t.Context(), strings.Fields("-r http://h --nodes 2 -n 3"))
	require.NoError(t, err)
	require.Equal(t, []int{3, 3}, o.threads)
	require.Empty(t, o.id(1), "a random one")

	o, err = parse(t.Context(), strings.Fields("-n 4 -i node -T 4"))
	require.NoError(t, err)
	require.Equal(t, "node", o.id(0), "without --nodes the ID is as given")
}

func TestNumbersAreDecimal(t *testing.T) {
	o, err := parse(t.Context(), strings.Fields("-n 010 -I 010 -T 020"))
	require.NoError(t, err)
	require.Equal(t, []int{10}, o.threads)
	require.Equal(t, libcluster.DefaultTTL, o.ttl)
	require.EqualValues(t, 10, o.flags.index)
	require.EqualValues(t, 20, o.flags.total)
}
