// Package quote makes text that others wrote fit for a terminal and for a log: it may hold
// escapes that move the cursor, hide what stands there, or forge a line.
package quote

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Text returns s with all that is not printable escaped as in a Go string.
func Text(s string) string {
	if isPrintable(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		one := s[:size]
		if r == utf8.RuneError && size == 1 || !strconv.IsPrint(r) {
			one = strings.Trim(strconv.Quote(one), `"`)
		}
		b.WriteString(one)
		s = s[size:]
	}
	return b.String()
}

// Lines is Text that keeps line breaks.
func Lines(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = Text(line)
	}
	return strings.Join(lines, "\n")
}

// Error returns err if its text is printable, and otherwise an error that wraps it and
// says the same in one line. The errors of [errors.Join] are then separated by semicolons.
func Error(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	if isPrintable(text) {
		return err
	}
	return &quoted{Text(strings.ReplaceAll(text, "\n", "; ")), err}
}

type quoted struct {
	text string
	err  error
}

func (q *quoted) Error() string { return q.text }
func (q *quoted) Unwrap() error { return q.err }

// JSON returns what json.Marshal has made with all that is not printable escaped. It
// means the same: what is not printable is in strings only.
func JSON(marshalled []byte) string {
	var b strings.Builder
	for _, r := range string(marshalled) {
		switch {
		case strconv.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

func isPrintable(s string) bool {
	for _, r := range s {
		if !strconv.IsPrint(r) {
			return false
		}
	}
	return utf8.ValidString(s)
}
