package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/quote"
)

// census is who is there at a time, and a line of -o json.
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

// table is the census for people. What says more of the members than what they hold is only in
// a wide one, and there a column that is empty is left out.
func (c census) table(wide bool) string {
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
	t := newTable(c.Members, "member", func(m there) string { return m.ID })
	if wide {
		t.addUnlessEmpty("address", func(m there) string { return m.Address })
		t.addUnlessEmpty("version", func(m there) string { return m.Version })
		t.addUnlessEmpty("metadata", there.metadata)
	}
	t.numbers()
	t.add("workers", func(m there) string { return strconv.Itoa(m.Workers) })
	if c.Mode == libcluster.ModeCooperative {
		t.add("partitions", func(m there) string { return m.Partitions })
	} else {
		t.add("indexes", there.indexes)
	}
	t.add("", func(m there) string {
		if m.ID == c.Primary {
			return "primary"
		}
		return ""
	})
	align(&b, t.rows, t.text)
	return b.String()
}

// indexes is the range of a member, for people.
func (m there) indexes() string {
	if m.Workers == 1 {
		return strconv.Itoa(m.Index)
	}
	return fmt.Sprintf("%d-%d", m.Index, m.Index+m.Workers-1)
}

func (m there) metadata() string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(m.Metadata)) {
		pairs = append(pairs, name+"="+m.Metadata[name])
	}
	return strings.Join(pairs, ",")
}
