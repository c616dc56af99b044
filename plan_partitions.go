package libcluster

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// parseHolder reads the line of one incarnation in mode cooperative.
func (p *plan) parseHolder(f []string) (l planned, err error) {
	if len(f) != 7 {
		return l, fmt.Errorf("plan: %.60q is not a member's line", strings.Join(f, "\t"))
	}
	if l, err = parseIncarnation(f[0], f[1], f[2], Assignment{Member: Member{ID: f[3], Address: f[4]}}); err != nil {
		return l, err
	}
	l.held, err = parsePartitions(f[5], p.total)
	if err == nil {
		l.releases, err = parsePartitions(f[6], p.total)
	}
	if err != nil {
		return l, fmt.Errorf("plan: %.40q: %w", l.ID, err)
	}
	l.Index = l.held.first()
	return l, nil
}

// checkPartitions returns an error if two incarnations may act on a partition that one of
// them keeps.
func (p *plan) checkPartitions() error {
	if p.total < 1 {
		return errors.New("plan: it has no partitions")
	}
	owners, err := p.partitionOwners()
	if err != nil {
		return err
	}
	var kept partitionSet
	for _, r := range partitionRuns(owners) {
		kept = kept.grow(r.span)
	}
	for _, l := range p.lines {
		if both := kept.and(l.releases); len(both) > 0 {
			return fmt.Errorf("plan: %.40q is to release %.60v, of which an instance has been told that it holds them", l.ID, both)
		}
	}
	return nil
}

// partitionOwners returns for each partition which line keeps it, or noOwner.
func (p *plan) partitionOwners() ([]int, error) {
	owners := slices.Repeat([]int{noOwner}, p.total)
	for i, l := range p.lines {
		for n := range l.held.all() {
			if o := owners[n]; o != noOwner {
				return nil, fmt.Errorf("plan: partition %d has two owners, %.40q and %.40q", n, p.lines[o].ID, l.ID)
			}
			owners[n] = i
		}
	}
	return owners, nil
}
