package quote_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/internal/quote"
)

func TestWhatIsNotPrintableIsEscaped(t *testing.T) {
	for text, want := range map[string]string{
		"":                      "",
		`a "b" \c é 日本 🙂 \x1b`:  `a "b" \c é 日本 🙂 \x1b`,
		"\x1b[31m\a\r\n\t\x00":  `\x1b[31m\a\r\n\t\x00`,
		"\u009b31m\x7f":         `\u009b31m\x7f`,
		"a\u202eb\u00a0c\u2028": `a\u202eb\u00a0c\u2028`,
		"\xff\xc2":              `\xff\xc2`,
		"\U000e0001":            `\U000e0001`,
		"\ufffd":                "\ufffd",
	} {
		require.Equal(t, want, quote.Text(text))
	}
	require.Equal(t, "a\\x1b\nb\n", quote.Lines("a\x1b\nb\n"))
}

func TestErrorIsTheSameButForItsText(t *testing.T) {
	require.NoError(t, quote.Error(nil))
	require.Same(t, fs.ErrExist, quote.Error(fs.ErrExist))
	err := quote.Error(errors.Join(fs.ErrExist, errors.New("\x1b[2J")))
	require.ErrorIs(t, err, fs.ErrExist)
	require.EqualError(t, err, `file already exists; \x1b[2J`)
}

func FuzzJSONMeansTheSame(f *testing.F) {
	for _, text := range []string{"a", "\u009b\x7f\n", "\U000e0001🙂", "\xff", `\u009b"`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		line, err := json.Marshal(text)
		require.NoError(t, err)
		quoted := quote.JSON(line)
		for _, r := range quoted {
			require.True(t, strconv.IsPrint(r), "%q", quoted)
		}
		var before, after string
		require.NoError(t, json.Unmarshal(line, &before))
		require.NoError(t, json.Unmarshal([]byte(quoted), &after))
		require.Equal(t, before, after)
		for _, r := range quote.Text(text) {
			require.True(t, strconv.IsPrint(r))
		}
	})
}
