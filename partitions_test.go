package libcluster

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// textsOf returns the texts of all members' partitions.
func textsOf(owners []int, members int) (texts []string) {
	for _, set := range partitionsOf(owners, members) {
		texts = append(texts, set.String())
	}
	return texts
}

// readOwners reads the texts of all members, as a plan's reader does.
func readOwners(texts []string, n int) ([]int, error) {
	p := plan{total: n}
	for i, text := range texts {
		set, err := parsePartitions(text, n)
		if err != nil {
			return nil, err
		}
		p.lines = append(p.lines, planned{Assignment: Assignment{Member: Member{ID: fmt.Sprint(i)}, held: set}})
	}
	return p.partitionOwners()
}

func TestPartitionTextsReadAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := rapid.IntRange(0, 5).Draw(t, "members")
		owners := drawOwners(t, members)
		read, err := readOwners(textsOf(owners, members), len(owners))
		require.NoError(t, err)
		require.Equal(t, owners, read)
	})
}

// A set is compared with a list of booleans.
func TestPartitionSetsAreCombinedAsSetsAre(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		owners := drawOwners(t, 2)
		others := rapid.SliceOfN(rapid.IntRange(noOwner, 0), len(owners), len(owners)).Draw(t, "others")
		a, b := partitionsOf(owners, 2)[0], partitionsOf(others, 1)[0]
		and, or, minus := slices.Clone(owners), slices.Clone(owners), slices.Clone(owners)
		for n := range owners {
			inA, inB := owners[n] == 0, others[n] == 0
			and[n], or[n], minus[n] = noOwner, noOwner, noOwner
			if inA && inB {
				and[n] = 0
			}
			if inA || inB {
				or[n] = 0
			}
			if inA && !inB {
				minus[n] = 0
			}
			require.Equal(t, inA, a.has(n))
		}
		require.Equal(t, partitionsOf(and, 1)[0], a.and(b))
		require.Equal(t, partitionsOf(or, 1)[0], a.or(b))
		require.Equal(t, partitionsOf(minus, 1)[0], a.minus(b))
		require.Len(t, slices.Collect(a.all()), a.count())
		require.Equal(t, slices.Index(owners, 0), a.first())
		require.False(t, a.has(-1) || a.has(len(owners)))
	})
}

func TestPartitionTextIsRunsInOrder(t *testing.T) {
	owners := []int{0, 0, 0, 1, 0, noOwner, 1, 1, noOwner}
	require.Equal(t, []string{"0-2,4", "3,6-7", ""}, textsOf(owners, 3))
	owners = make([]int, 1<<16)
	require.Equal(t, []string{"0-65535"}, textsOf(owners, 1))
}

func TestAWrongPartitionTextIsRefusedWithTheReason(t *testing.T) {
	const number = "must be a number of 0 to 65535"
	for _, c := range []struct{ texts, want string }{
		{"8", `partitions "8": the last partition is 7`},
		{"0-8", `partitions "0-8": the last partition is 7`},
		{"3,1", `partitions "1": it does not come after the run before it`},
		{"1-3,3", `partitions "3": it does not come after the run before it`},
		{"1,2", `partitions "2": it continues the run before it, and must be a part of that`},
		{"1-2,3-4", `partitions "3-4": it continues the run before it`},
		{"3-3", `partitions "3-3": a run ends at a higher number than it begins at`},
		{"3-1", `partitions "3-1": a run ends at a higher number`},
		{"1,3/2-4", `partition 3 has two owners, "0" and "1"`},
		{"1/07", `partitions "07": ` + number},
		{"1,", number},
		{",", number},
		{"-", number},
		{"1-", number},
		{"-1", number},
		{"1-2-3", number},
		{" 1", number},
		{"1 ", number},
		{"+1", number},
		{"1_0", number},
		{"0x1", number},
		{"x", number},
		{"00", number},
		{"65536", number},
		{"99999999999999999999", number},
		{strings.Repeat("9", 1000), strings.Repeat("9", 30) + `": ` + number},
	} {
		_, err := readOwners(strings.Split(c.texts, "/"), 8)
		require.ErrorContains(t, err, c.want, c.texts)
		require.Less(t, len(err.Error()), 200)
	}
}

func FuzzParsePartitions(f *testing.F) {
	f.Add("0-12,17,40-63/13-16/", uint16(64))
	f.Add("0-65535", uint16(65535))
	f.Add("1,2/2-1,07", uint16(8))
	f.Fuzz(func(t *testing.T, text string, n uint16) {
		texts := strings.Split(text, "/")
		owners, err := readOwners(texts, int(n))
		if err == nil {
			require.Len(t, owners, int(n))
			require.Equal(t, texts, textsOf(owners, len(texts)))
		}
	})
}

// If members gave their highest numbers, whatever runs these are in, the second text would
// be half as long again.
func TestPartitionTextsStayShort(t *testing.T) {
	for _, c := range []struct{ members, partitions, most int }{
		{10, 256, 700}, {100, 4096, 10_500}, {1000, 4096, 9_500},
	} {
		crowd := agedCrowd(c.partitions, c.members, 8, 1)
		text := strings.Join(textsOf(crowd.owners, len(crowd.weights)), "")
		require.Less(t, len(text), c.most, "%d members", c.members)
	}
}

func BenchmarkPartitionTexts(b *testing.B) {
	for _, c := range []struct{ members, partitions, heaviest int }{
		{10, 256, 1}, {10, 256, 8}, {100, 4096, 1}, {100, 4096, 8}, {1000, 4096, 1}, {1000, 4096, 8},
	} {
		crowd := agedCrowd(c.partitions, c.members, c.heaviest, 1)
		b.Run(fmt.Sprintf("%d members up to %d, %d partitions", c.members, c.heaviest, c.partitions), func(b *testing.B) {
			b.ReportAllocs()
			var texts []string
			for b.Loop() {
				texts = textsOf(crowd.owners, len(crowd.weights))
				if _, err := readOwners(texts, len(crowd.owners)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(strings.Join(texts, ""))), "bytes")
			b.ReportMetric(float64(len(partitionRuns(crowd.owners))), "runs")
		})
	}
}
