package libcluster

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// partitionRun is partitions of one owner whose numbers follow one another: [from, to).
type partitionRun struct{ owner, from, to int }

func (r partitionRun) len() int { return r.to - r.from }

// partitionRuns returns the runs of all owners, in order, each as long as it can be.
func partitionRuns(owners []int) (runs []partitionRun) {
	for from := 0; from < len(owners); {
		to := from + 1
		for to < len(owners) && owners[to] == owners[from] {
			to++
		}
		if owners[from] != noOwner {
			runs = append(runs, partitionRun{owners[from], from, to})
		}
		from = to
	}
	return runs
}

// encodePartitions returns the text of each member's partitions: its runs in order, such
// as 0-12,17,40-63. The text of a member without partitions is empty. Equal owners have
// equal texts.
func encodePartitions(owners []int, members int) []string {
	texts := make([][]byte, members)
	for _, r := range partitionRuns(owners) {
		text := texts[r.owner]
		if len(text) > 0 {
			text = append(text, ',')
		}
		text = strconv.AppendInt(text, int64(r.from), 10)
		if r.len() > 1 {
			text = append(text, '-')
			text = strconv.AppendInt(text, int64(r.to-1), 10)
		}
		texts[r.owner] = text
	}
	encoded := make([]string, members)
	for i, text := range texts {
		encoded[i] = string(text)
	}
	return encoded
}

// parsePartitions reads the texts of all members, and returns the owner of each of n
// partitions. It accepts what encodePartitions writes, and nothing else.
func parsePartitions(texts []string, n int) ([]int, error) {
	owners := slices.Repeat([]int{noOwner}, n)
	for member, text := range texts {
		runs, err := parsePartitionRuns(text, member, n)
		if err != nil {
			return nil, fmt.Errorf("member %d: %w", member, err)
		}
		for _, r := range runs {
			for p := r.from; p < r.to; p++ {
				if owners[p] != noOwner {
					return nil, fmt.Errorf("partition %d has two owners, the members %d and %d", p, owners[p], member)
				}
				owners[p] = member
			}
		}
	}
	return owners, nil
}

// parsePartitionRuns reads the text of one owner, of n partitions in all.
func parsePartitionRuns(text string, owner, n int) (runs []partitionRun, err error) {
	if text == "" {
		return nil, nil
	}
	end := -1 // of the run before; at first nothing can continue that
	for item := range strings.SplitSeq(text, ",") {
		from, to, err := parsePartitionRun(item)
		switch {
		case err != nil:
		case to > n:
			err = fmt.Errorf("the last partition is %d", n-1)
		case from == end:
			err = errors.New("it continues the run before it, and must be a part of that")
		case from < end:
			err = errors.New("it does not come after the run before it")
		}
		if err != nil {
			return nil, fmt.Errorf("partitions %.30q: %w", item, err)
		}
		runs = append(runs, partitionRun{owner, from, to})
		end = to
	}
	return runs, nil
}

// parsePartitionRun reads one number, or the first and the last of several.
func parsePartitionRun(text string) (from, to int, err error) {
	first, last, several := strings.Cut(text, "-")
	from, err = parsePartition(first)
	if err != nil || !several {
		return from, from + 1, err
	}
	to, err = parsePartition(last)
	if err == nil && to <= from {
		err = errors.New("a run ends at a higher number than it begins at")
	}
	return from, to + 1, err
}

func parsePartition(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != text {
		return 0, errors.New("must be a number of 0 to 65535, such as 17, or the first and the last of a run, such as 40-63")
	}
	return int(n), nil
}
