package main

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/libcluster/libcluster/internal/quote"
)

// align writes rows with columns as wide as they need. The first ones are text, the
// others numbers. What others wrote is quoted.
func align(b *strings.Builder, rows [][]string, text int) {
	wide := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			row[i] = quote.Text(cell)
			wide[i] = max(wide[i], utf8.RuneCountInString(row[i]))
		}
	}
	for _, row := range rows {
		line := ""
		for i, cell := range row {
			if i < text {
				line += fmt.Sprintf("%-*s  ", wide[i], cell)
			} else {
				line += fmt.Sprintf("%*s  ", wide[i], cell)
			}
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
}
