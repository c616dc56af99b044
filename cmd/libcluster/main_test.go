package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/signal"
	"regexp"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/testcommand"
	"github.com/libcluster/libcluster/internal/testetcd"
)

// patience bounds every wait in these tests.
const patience = testetcd.Patience

// leave has more time than Leave takes by itself: on a busy machine a registry may need it.
func leave(t *testing.T, c *libcluster.Cluster, options ...libcluster.LeaveOption) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, c.Leave(ctx, options...))
}

// The test binary is other programs too, by its first argument.
const (
	asProgram = "as-libcluster"
	asWitness = "as-witness"
	asKiller  = "as-killer"
)

func TestMain(m *testing.M) {
	if os.Args[0] == guardName {
		main()
	}
	if len(os.Args) > 1 {
		switch as := os.Args[1]; as {
		case asProgram:
			os.Args = append(os.Args[:1], os.Args[2:]...)
			main()
		case asWitness:
			witness(os.Args[2])
		case asKiller:
			killTwice(os.Args[2])
		}
	}
	if err := os.Setenv("LIBCLUSTER_TIMEOUT", patience.String()); err != nil { // the default is for people
		panic(err)
	}
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP) // or what nohup has ignored would stay so
	testetcd.Main(m)
}

func etcdURL(t *testing.T) string { return testetcd.URL(t) }

func key(t *testing.T) string { return testcommand.Key(t) }

// start starts the program in this process.
func start(t *testing.T, args ...string) *testcommand.Running {
	t.Helper()
	return testcommand.Start(t, run, args...)
}

// printed runs the program, which shall do well, and returns what it prints.
func printed(t *testing.T, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	require.Zero(t, run(t.Context(), args, &stdout, &stderr), "%s", &stderr)
	require.Empty(t, said(stderr.String()))
	return stdout.String()
}

// said is what the program has said, without that it waits for a slow machine.
func said(stderr string) string {
	return regexp.MustCompile(`(?m)^libcluster: waiting for .* …\n`).ReplaceAllString(stderr, "")
}

func TestBadCommandLineIsToldInOneLine(t *testing.T) {
	for _, c := range []struct {
		args string   // separated by spaces; '' is an empty one
		says []string // the flag and the value, and what is wrong or to do
	}{
		{"--foo", []string{`"--foo"`}},
		{"foo", []string{`"foo"`}},
		{"wach", []string{`unknown command "wach" for "libcluster"; did you mean watch?`}},
		{"exec --foo", []string{`"--foo"`}},
		{"exec -k m -r sqlite:f", []string{"COMMAND"}},
		{"exec -r sqlite:f -- true", []string{"-k/--key", "LIBCLUSTER_KEY"}},
		{"exec -k m -- true", []string{"-r/--registry", "LIBCLUSTER_REGISTRY"}},
		{"exec -k m -r localhost:2379 -- true", []string{"-r/--registry", "did you mean http://localhost:2379?"}},
		{"exec -k a/b -r sqlite:f -- true", []string{"-k/--key", `"a/b"`}},
		{"exec -k m -p a/b -r sqlite:f -- true", []string{"-p/--partition-name", `"a/b"`}},
		{"exec -k m -i '' -r sqlite:f -- true", []string{"-i/--id", "empty"}},
		{"exec -k m -r sqlite:f --mode fair -- true", []string{"--mode", `"fair"`, "exclusive"}},
		{"exec -k m -r sqlite:f --mode cooperative -- true", []string{"--mode", "--partitions"}},
		{"exec -k m -r sqlite:f --partitions 4 -- true", []string{"--partitions", "mode planned has none"}},
		{"exec -k m -r sqlite:f --mode cooperative --partitions 4 --per-instance -- true", []string{"--per-instance", "--mode"}},
		{"exec -k m -r sqlite:f --ttl 0s -- true", []string{"--ttl", "0s", "positive"}},
		{"exec -k m -r sqlite:f --ttl 1ms -- true", []string{"--ttl", "1ms", "24h"}},
		{"exec -k m -r sqlite:f -n 0 -- true", []string{"-n/--workers", "0"}},
		{"exec -k m -r sqlite:f -n x -- true", []string{"-n/--workers", `"x"`, "whole number"}},
		{"exec -k m -r sqlite:f --grace -1s -- true", []string{"--grace", "-1s", "negative"}},
		{"exec -k m -r sqlite:f --timeout -1s -- true", []string{"--timeout", "-1s", "negative"}},
		{"exec -k m -r sqlite:f --signal FOO -- true", []string{"--signal", `"FOO"`, "TERM"}},
		{"exec -k m -r sqlite:f --primary --per-instance -- true", []string{"--primary", "--per-instance"}},
		{"exec -k m -r http://h --user :secret -- true", []string{"--user"}},
		{"exec -k m -r sqlite:f --user root:secret -- true", []string{"--user"}},
		{"version more", []string{`"more"`}},
	} {
		t.Run(c.args, func(t *testing.T) {
			args := strings.Split(c.args, " ")
			for i, arg := range args {
				args[i] = strings.ReplaceAll(arg, "''", "")
			}
			var stdout, stderr bytes.Buffer
			require.Equal(t, exitUsage, run(t.Context(), args, &stdout, &stderr), "%s", &stderr)
			require.Empty(t, stdout.String())
			require.Regexp(t, `^libcluster: [^\n]+; try 'libcluster[a-z ]* --help'\n$`, stderr.String())
			require.NotContains(t, stderr.String(), "secret")
			for _, want := range c.says {
				require.Contains(t, stderr.String(), want)
			}
		})
	}
}

func TestVersionIsThatOfTheBuild(t *testing.T) {
	text := printed(t, "version")
	require.Regexp(t, `^libcluster .*, go1\..*\n$`, text)
	require.Equal(t, text, printed(t, "--version"))
	require.Contains(t, printed(t, "--help"), "-v, --verbose")
	require.Equal(t, "libcluster v1.2.3, revision abc with changes, go1.26", versionText(&debug.BuildInfo{
		GoVersion: "go1.26", Main: debug.Module{Version: "v1.2.3"},
		Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"}},
	}))
}

// Those that only look are run below.
func TestCommandsOfTheDocumentsExist(t *testing.T) {
	seen := map[string]bool{}
	for _, args := range testcommand.OfDocuments(t, "../..", program) {
		root := newRoot()
		root.InitDefaultCompletionCmd(args...)
		command, rest, err := root.Find(args)
		require.NoError(t, err, "%q", args)
		require.True(t, command != root || len(args) == 0 || strings.HasPrefix(args[0], "-"), "%q", args)
		if err := command.ParseFlags(rest); !errors.Is(err, pflag.ErrHelp) {
			require.NoError(t, err, "%q", args)
		}
		isNamedOnly := command.CommandPath() == strings.Join(append([]string{program}, args...), " ")
		if command.Name() != "exec" && !isNamedOnly { // of exec the arguments follow "--"
			require.NoError(t, command.ValidateArgs(command.Flags().Args()), "%q", args)
		}
		seen[command.Name()] = true
	}
	for _, name := range []string{"ls", "watch", "owner", "check", "drain", "undrain", "clusters", "remove", "serve", "simulate", "exec", "man", "bash"} {
		require.True(t, seen[name], "no document has the command %s", name)
	}
}

func TestCommandsOfTheReadmeAreUnderstood(t *testing.T) {
	put(t, "node1", "2")
	cluster := key(t) // to each command
	text, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	lines := regexp.MustCompile(`(?m)^    (?:go run \./cmd/)?libcluster ((?:`+strings.Join([]string{"ls", "watch", "owner", "check", "clusters", "simulate"}, "|")+`) .*)$`).FindAllStringSubmatch(string(text), -1)
	require.NotEmpty(t, lines)
	for _, found := range lines {
		t.Run(found[1], func(t *testing.T) {
			args := strings.Fields(found[1])
			if args[0] == "simulate" {
				args = append(args, "--runs", "1", "--keys", "100")
			} else {
				args = append(args, "-k", cluster, "-r", etcdURL(t))
			}
			p := start(t, args...)
			if args[0] == "watch" {
				p.Stdout.AwaitText(t, "\n")
				p.Signal()
			}
			require.NotEqual(t, exitUsage, p.Ends(t), "%s", p.Stderr)
			require.NotEmpty(t, p.Stdout.String())
		})
	}
}
