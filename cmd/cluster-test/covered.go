package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/quote"
)

// covered is whether every index is held once, and what is wrong.
type covered struct {
	Covered  bool      `json:"covered"`
	Problems []problem `json:"problems"`
	failed   string    // why it is not known
}

// problem is one thing that is wrong, with the indexes [From, To).
type problem struct {
	Kind     libcluster.ProblemKind `json:"kind"`
	From     int                    `json:"from"`
	To       int                    `json:"to"`
	ID       string                 `json:"id,omitempty"`
	Text     string                 `json:"text"`
	forHuman string
}

// covered asks the registry.
func (l *looker) covered(ctx context.Context) *covered {
	found, err := l.cluster.Coverage(ctx)
	if err != nil {
		return &covered{failed: oneLine(err), Problems: []problem{}}
	}
	c := &covered{Covered: found.Covered, Problems: []problem{}}
	for _, p := range found.Problems {
		c.Problems = append(c.Problems, problem{p.Kind, p.From, p.To, p.ID, p.Text, p.String()})
	}
	return c
}

func (c *covered) equal(d *covered) bool {
	return c.Covered == d.Covered && c.failed == d.failed && slices.Equal(c.Problems, d.Problems)
}

// text is for people: one line if all is well.
func (c *covered) text(mode libcluster.Mode) string {
	var b strings.Builder
	one := "index"
	if mode == libcluster.ModeCooperative {
		one = "partition"
	}
	switch {
	case c.failed != "":
		fmt.Fprintf(&b, "cannot tell whether every %s is held: %s\n", one, quote.Text(c.failed))
	case c.Covered && len(c.Problems) == 0:
		fmt.Fprintf(&b, "covered: every %s is held once\n", one)
	case c.Covered:
		fmt.Fprintf(&b, "covered: every %s is held once, but:\n", one)
	default:
		b.WriteString("not covered:\n")
	}
	for _, p := range c.Problems {
		fmt.Fprintf(&b, "  %s\n", quote.Text(p.forHuman))
	}
	return b.String()
}
