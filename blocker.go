package libcluster

import (
	"bytes"
	"strconv"
	"time"
)

// Blocker is an instance that the cluster waits for: see [Cluster.Blockers].
type Blocker struct {
	// ID is the instance's ID.
	ID string
	// Since is when the wait began, by the clock of the coordinator's machine. It is
	// zero in a [Coverage] while the wait has lasted less than a second.
	Since time.Time
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
		since, id, ok := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte("\t"))
		ms, err := strconv.ParseInt(string(since), 10, 64)
		if ok && err == nil && checkName("ID", string(id)) == nil {
			all = append(all, Blocker{string(id), time.UnixMilli(ms)})
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
