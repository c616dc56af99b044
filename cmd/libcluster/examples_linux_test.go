//go:build examples

package main

import (
	"fmt"
	"hash/crc32"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// pythonWorker needs python3, which not everybody has who runs all tests.
const pythonWorker = "../../examples/python/worker.py"

func TestPythonWorkerWorksOnItsPart(t *testing.T) {
	t.Parallel()
	accounts := []string{"account-1", "account-2", "account-3", "account-4", "account-5"}
	for mode, flags := range map[string][]string{
		"planned":     {"-n", "2"},
		"cooperative": {"--mode", "cooperative", "--partitions", "2"},
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			args := with(append(inFolder(t), flags...), "--ttl", unfenced, "--grace", "10m", "--", pythonWorker)
			p := execute(t, append(args, accounts...)...)
			for seen := map[string]bool{}; len(seen) < len(accounts); {
				p.await(t, `^[01] of 2 works on account-\d with token [1-9]`)
				line := strings.Fields(p.read[len(p.read)-1])
				account := line[5]
				require.Equal(t, fmt.Sprint(crc32.ChecksumIEEE([]byte(account))%2), line[0], "who works on %s", account)
				seen[account] = true
			}
			p.terminate(t) // within the grace period
		})
	}
}

// The unit's command is understood, with the tests' registry and worker.
func TestCommandOfTheSystemdUnitRuns(t *testing.T) {
	t.Parallel()
	unit, err := os.ReadFile("../../examples/systemd/mailer@.service")
	require.NoError(t, err)
	text := strings.ReplaceAll(string(unit), "\\\n", " ")
	found := regexp.MustCompile(`(?m)^ExecStart=/usr/bin/libcluster exec -k mailer (.*)$`).FindStringSubmatch(text)
	require.NotNil(t, found, "%s", text)
	line := strings.NewReplacer(
		"%H-%i", "host-1",
		"http://127.0.0.1:2379", inFolder(t)[1],
		"/usr/lib/mailer/worker.py", pythonWorker+" account-1",
	).Replace(found[1])
	p := execute(t, strings.Fields(line)...)
	p.await(t, `works on account-1`)
	p.terminate(t)
}
