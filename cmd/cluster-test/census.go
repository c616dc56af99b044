package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/quote"
)

// census is who is there at a time, and a line of --json.
type census struct {
	Time       string          `json:"time"`
	Mode       libcluster.Mode `json:"mode"`
	Generation int64           `json:"generation"`
	Total      int             `json:"total"`
	Primary    string          `json:"primary"`
	Members    []there         `json:"members"`
	Waiting    []awaited       `json:"waiting"`
	Coverage   *covered        `json:"coverage"`
}

// awaited is one who has yet to stop before the others can go on.
type awaited struct {
	ID    string `json:"id"`
	Since string `json:"since"`
}

type there struct {
	ID         string            `json:"id"`
	Index      int               `json:"index"`
	Workers    int               `json:"workers"`
	Partitions string            `json:"partitions,omitempty"`
	Address    string            `json:"address,omitempty"`
	Version    string            `json:"version,omitempty"`
	Metadata   map[string]string `json:"metadata,omitempty"`
}

// table is the census for people. A column that is empty is left out.
func (c census) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "mode %v, generation %d, total %d\n", c.Mode, c.Generation, c.Total)
	for _, w := range c.Waiting {
		fmt.Fprintf(&b, "waiting for %s since %s\n", quote.Text(w.ID), w.Since)
	}
	if len(c.Members) == 0 {
		b.WriteString("no members\n")
		return b.String()
	}
	b.WriteString(c.Coverage.text(c.Mode))
	var addresses, versions bool
	for _, m := range c.Members {
		addresses = addresses || m.Address != ""
		versions = versions || m.Version != ""
	}
	rows := [][]string{{"member"}}
	for _, m := range c.Members {
		rows = append(rows, []string{m.ID})
	}
	column := func(name string, cell func(there) string) {
		rows[0] = append(rows[0], name)
		for i, m := range c.Members {
			rows[i+1] = append(rows[i+1], cell(m))
		}
	}
	if addresses {
		column("address", func(m there) string { return m.Address })
	}
	if versions {
		column("version", func(m there) string { return m.Version })
	}
	text := len(rows[0])
	column("workers", func(m there) string { return strconv.Itoa(m.Workers) })
	if c.Mode == libcluster.ModeCooperative {
		column("partitions", func(m there) string { return m.Partitions })
	}
	if c.Mode != libcluster.ModeCooperative {
		column("indexes", func(m there) string {
			if m.Workers == 1 {
				return strconv.Itoa(m.Index)
			}
			return fmt.Sprintf("%d-%d", m.Index, m.Index+m.Workers-1)
		})
	}
	column("", func(m there) string {
		if m.ID == c.Primary {
			return "primary"
		}
		return ""
	})
	align(&b, rows, text)
	return b.String()
}

// line is the census for programs.
func (c census) line() string {
	line, err := json.Marshal(c)
	if err != nil { // strings and numbers always marshal
		panic(err)
	}
	return quote.JSON(line) + "\n"
}
