package libcluster_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The README's program is the Example, so it compiles.
func TestReadmeProgramIsTheExample(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	example, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	body := func(text []byte, function string) string {
		found := regexp.MustCompile(`(?s)func ` + function + `\(\) \{\n(.*?)\n\}\n`).FindSubmatch(text)
		require.NotNil(t, found, "no func %s", function)
		return strings.TrimSpace(string(found[1]))
	}
	require.Equal(t, body(example, "Example"), body(readme, "main"))
}
