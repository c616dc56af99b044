package libcluster

import (
	"errors"
	"fmt"
	"iter"
	"sort"
	"strconv"
	"strings"
)

// noOwner stands for the owner of a partition that no member holds.
const noOwner = -1

// span is partitions whose numbers follow one another: [from, to).
type span struct{ from, to int }

func (s span) len() int { return s.to - s.from }

// partitionSet is the numbers of some partitions: spans in order that do not touch one
// another. So equal sets have equal spans. It is never changed.
type partitionSet []span

// allPartitions is all of n.
func allPartitions(n int) partitionSet { return partitionSet{{0, n}} }

func (s partitionSet) has(partition int) bool {
	after := sort.Search(len(s), func(i int) bool { return s[i].from > partition })
	return after > 0 && partition < s[after-1].to
}

// count returns how many partitions are in the set.
func (s partitionSet) count() (n int) {
	for _, r := range s {
		n += r.len()
	}
	return n
}

// first returns the lowest partition, or -1.
func (s partitionSet) first() int {
	if len(s) == 0 {
		return -1
	}
	return s[0].from
}

// all yields the partitions in order.
func (s partitionSet) all() iter.Seq[int] {
	return func(yield func(int) bool) {
		for _, r := range s {
			for p := r.from; p < r.to; p++ {
				if !yield(p) {
					return
				}
			}
		}
	}
}

// firstOf returns the lowest partitions, so many at most.
func (s partitionSet) firstOf(most int) (numbers []int) {
	for n := range s.all() {
		if len(numbers) == most {
			break
		}
		numbers = append(numbers, n)
	}
	return numbers
}

func (s partitionSet) and(t partitionSet) (set partitionSet) {
	for i, j := 0, 0; i < len(s) && j < len(t); {
		from, to := max(s[i].from, t[j].from), min(s[i].to, t[j].to)
		if from < to {
			set = append(set, span{from, to})
		}
		if s[i].to == to {
			i++
		} else {
			j++
		}
	}
	return set
}

func (s partitionSet) or(t partitionSet) (set partitionSet) {
	switch {
	case len(t) == 0:
		return s
	case len(s) == 0:
		return t
	}
	for len(s) > 0 || len(t) > 0 {
		if len(s) == 0 || len(t) > 0 && t[0].from < s[0].from {
			s, t = t, s
		}
		set, s = set.grow(s[0]), s[1:]
	}
	return set
}

func (s partitionSet) minus(t partitionSet) (set partitionSet) {
	if len(s) == 0 || len(t) == 0 {
		return s
	}
	for _, r := range s {
		for len(t) > 0 && t[0].to <= r.from {
			t = t[1:]
		}
		for _, without := range t {
			if without.from >= r.to {
				break
			}
			if r.from < without.from {
				set = append(set, span{r.from, without.from})
			}
			r.from = without.to
		}
		if r.from < r.to {
			set = append(set, r)
		}
	}
	return set
}

// grow appends a span that does not begin before the last one, to a set that is being made.
func (s partitionSet) grow(r span) partitionSet {
	if n := len(s); n > 0 && r.from <= s[n-1].to {
		s[n-1].to = max(s[n-1].to, r.to)
		return s
	}
	return append(s, r)
}

// partitionRun is a span of one owner.
type partitionRun struct {
	owner int
	span
}

// partitionRuns returns the runs of all owners, in order, each as long as it can be.
func partitionRuns(owners []int) (runs []partitionRun) {
	for from := 0; from < len(owners); {
		to := from + 1
		for to < len(owners) && owners[to] == owners[from] {
			to++
		}
		if owners[from] != noOwner {
			runs = append(runs, partitionRun{owners[from], span{from, to}})
		}
		from = to
	}
	return runs
}

// partitionsOf returns the partitions of each member.
func partitionsOf(owners []int, members int) []partitionSet {
	sets := make([]partitionSet, members)
	for _, r := range partitionRuns(owners) {
		sets[r.owner] = append(sets[r.owner], r.span)
	}
	return sets
}

// String returns the spans in order, such as 0-12,17,40-63. The text of the empty set is
// empty.
func (s partitionSet) String() string {
	var text []byte
	for _, r := range s {
		if len(text) > 0 {
			text = append(text, ',')
		}
		text = strconv.AppendInt(text, int64(r.from), 10)
		if r.len() > 1 {
			text = append(text, '-')
			text = strconv.AppendInt(text, int64(r.to-1), 10)
		}
	}
	return string(text)
}

// parsePartitions reads the text of some of n partitions. It accepts what String writes, and
// nothing else.
func parsePartitions(text string, n int) (set partitionSet, err error) {
	if text == "" {
		return nil, nil
	}
	end := -1 // of the span before; at first nothing can continue that
	for item := range strings.SplitSeq(text, ",") {
		r, err := parseSpan(item)
		switch {
		case err != nil:
		case r.to > n:
			err = fmt.Errorf("the last partition is %d", n-1)
		case r.from == end:
			err = errors.New("it continues the run before it, and must be a part of that")
		case r.from < end:
			err = errors.New("it does not come after the run before it")
		}
		if err != nil {
			return nil, fmt.Errorf("partitions %.30q: %w", item, err)
		}
		set, end = append(set, r), r.to
	}
	return set, nil
}

// parseSpan reads one number, or the first and the last of several.
func parseSpan(text string) (r span, err error) {
	first, last, several := strings.Cut(text, "-")
	r.from, err = parsePartition(first)
	if err != nil || !several {
		return span{r.from, r.from + 1}, err
	}
	to, err := parsePartition(last)
	if err == nil && to <= r.from {
		err = errors.New("a run ends at a higher number than it begins at")
	}
	return span{r.from, to + 1}, err
}

func parsePartition(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != text {
		return 0, errors.New("must be a number of 0 to 65535, such as 17, or the first and the last of a run, such as 40-63")
	}
	return int(n), nil
}
