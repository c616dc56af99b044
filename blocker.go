package libcluster

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Blocker is an instance that the cluster waits for: see [Cluster.Blockers].
type Blocker struct {
	// ID is the instance's ID.
	ID string
	// Since is when the wait began, by the clock of the coordinator's machine. It is
	// zero in a [Coverage] while the wait has lasted less than a second.
	Since time.Time
	// Partitions are those that the cluster waits for, in mode [ModeCooperative]: the first
	// 100 of them.
	Partitions []int
}

// maxBlockers bounds how many blockers the coordinator names, and how many lines are read
// of what it says: something else may have written them.
const maxBlockers = 100

func parseBlockers(coordinator []byte) (all []Blocker) {
	_, lines, _ := bytes.Cut(coordinator, []byte("\n"))
	read := 0
	for line := range bytes.Lines(lines) {
		if read++; read > maxBlockers {
			break
		}
		since, id, ok := strings.Cut(strings.TrimSuffix(string(line), "\n"), "\t")
		id, partitions, _ := strings.Cut(id, "\t")
		ms, err := strconv.ParseInt(since, 10, 64)
		if ok && err == nil && checkName("ID", id) == nil {
			set, _ := parsePartitions(partitions, MaxPartitions)
			all = append(all, Blocker{id, time.UnixMilli(ms), set.firstOf(maxBlockers)})
		}
	}
	return all
}

func idsOf(blockers []Blocker) string {
	var ids []string
	for _, b := range blockers {
		ids = append(ids, b.ID)
	}
	return some(ids)
}

// some lists the first of many.
func some[T any](all []T) string {
	const most = 10
	var b strings.Builder
	for i, one := range all {
		switch {
		case i == most:
			fmt.Fprintf(&b, " and %d more", len(all)-most)
			return b.String()
		case i > 0:
			b.WriteString(", ")
		}
		fmt.Fprint(&b, one)
	}
	return b.String()
}

// firstLine is that of what a coordinator says: its mode and its incarnation.
func firstLine(says []byte) string {
	line, _, _ := bytes.Cut(says, []byte("\n"))
	return string(line)
}

// newcomersWait begins the line in which the coordinator says how long newcomers wait. The
// other lines begin with a time.
const newcomersWait = "newcomers"
