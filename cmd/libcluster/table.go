package main

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/libcluster/libcluster/internal/quote"
)

// table is rows about things, one each, below the columns' names.
type table[T any] struct {
	of   []T
	rows [][]string
	text int // how many columns are text; the others are numbers
}

// newTable returns a table with one column.
func newTable[T any](of []T, name string, cell func(T) string) *table[T] {
	t := &table[T]{of: of, rows: make([][]string, 1+len(of))}
	t.add(name, cell)
	return t
}

func (t *table[T]) add(name string, cell func(T) string) {
	t.rows[0] = append(t.rows[0], name)
	for i, one := range t.of {
		t.rows[i+1] = append(t.rows[i+1], cell(one))
	}
}

func (t *table[T]) addUnlessEmpty(name string, cell func(T) string) {
	if slices.ContainsFunc(t.of, func(one T) bool { return cell(one) != "" }) {
		t.add(name, cell)
	}
}

// numbers says that the columns that follow are numbers.
func (t *table[T]) numbers() { t.text = len(t.rows[0]) }

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
