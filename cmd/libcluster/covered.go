package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/quote"
	"github.com/libcluster/libcluster/internal/registryflag"
)

// covered is whether every index is held once, and what is wrong.
type covered struct {
	Covered  bool      `json:"covered"`
	Problems []problem `json:"problems"`
	Failed   string    `json:"error,omitempty"` // why it is not known
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
func (x *looker) covered(ctx context.Context) *covered {
	found, err := x.cluster.Coverage(ctx)
	if err != nil {
		return &covered{Failed: registryflag.OneLine(err), Problems: []problem{}}
	}
	c := &covered{Covered: found.Covered, Problems: []problem{}}
	for _, p := range found.Problems {
		c.Problems = append(c.Problems, problem{p.Kind, p.From, p.To, p.ID, p.Text, p.String()})
	}
	return c
}

func (c *covered) equal(d *covered) bool {
	return c.Covered == d.Covered && c.Failed == d.Failed && slices.Equal(c.Problems, d.Problems)
}

// text is for people: one line if all is well.
func (c *covered) text(mode libcluster.Mode) string {
	var b strings.Builder
	one := "index"
	if mode == libcluster.ModeCooperative {
		one = "partition"
	}
	switch {
	case c.Failed != "":
		fmt.Fprintf(&b, "cannot tell whether every %s is held: %s\n", one, quote.Text(c.Failed))
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
