package testcommand

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// OfDocuments returns the arguments of all of a program's commands in the pages of a folder that
// users read, in a line of their own or within one. What follows "--" is another program's, and left out.
func OfDocuments(t *testing.T, folder, program string) (commands [][]string) {
	t.Helper()
	name := `(?:go run \./cmd/)?` + regexp.QuoteMeta(program)
	line := regexp.MustCompile(`(?m)^    (?:[A-Z_]+=\S+ )*` + name + `( .*)?$`)
	within := regexp.MustCompile("`" + name + "(\\s[^`]+)?`")
	for _, page := range []string{"README.md", "TROUBLESHOOTING.md", "FROM-C.md", "SECURITY.md"} {
		text, err := os.ReadFile(filepath.Join(folder, page))
		require.NoError(t, err)
		whole := strings.ReplaceAll(string(text), "\\\n", " ")
		for _, found := range append(line.FindAllStringSubmatch(whole, -1), within.FindAllStringSubmatch(whole, -1)...) {
			args, _, _ := strings.Cut(found[1]+" ", " -- ")
			commands = append(commands, strings.Fields(args))
		}
	}
	require.NotEmpty(t, commands)
	return commands
}
