package libcluster_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A test that is renamed would stand in PROOF.md under its old name.
func TestProofNamesTestsThatThereAre(t *testing.T) {
	var sources strings.Builder
	for _, folder := range []string{"faults", "peers"} {
		files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
		require.NoError(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			sources.Write(text)
		}
	}
	text, err := os.ReadFile("PROOF.md")
	require.NoError(t, err)
	_, table, found := strings.Cut(string(text), "| on peers, in `peers/` |")
	require.True(t, found)
	names := regexp.MustCompile("`([A-Z][A-Za-z]+)`").FindAllStringSubmatch(table, -1)
	require.NotEmpty(t, names)
	for _, name := range names {
		require.True(t, strings.Contains(sources.String(), "func Test"+name[1]+"("), "PROOF.md names %s, which is in none of the folders", name[1])
	}
}
