package simulation

import (
	"encoding/json"
	"math/big"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

// write is one thing that a stranger does below the cluster's key.
type write struct {
	id, value string
	gone      bool
}

// writes reads arbitrary bytes as writes: a byte that says how long the ID is, or
// that it is a deletion, or which of the members' own IDs it is; the ID; the same
// for the value.
func writes(data []byte) (all []write) {
	take := func(n int) string {
		n = min(n, len(data))
		taken := string(data[:n])
		data = data[n:]
		return taken
	}
	for len(data) > 0 && len(all) < 100 {
		head := take(1)[0]
		w := write{gone: head >= 0xc0}
		switch head & 0x3f {
		case 0x3e:
			w.id = "b"
		case 0x3f:
			w.id = "d"
		default:
			w.id = take(int(head & 0x0f))
		}
		if !w.gone && len(data) > 0 {
			n := int(take(1)[0])
			if w.value = take(n & 0x7f); n&0x80 != 0 {
				w.value = strings.Repeat(w.value, 1000)
			}
		}
		all = append(all, w)
	}
	return all
}

// workersIn is the dumb twin of ParseMember: the workers of a record, or 0 if it is
// none.
func workersIn(id, value string) int {
	if id == "" || len(id) > 255 || !utf8.ValidString(id) || len(value) > 64<<10 ||
		strings.ContainsFunc(id, func(r rune) bool { return r == '/' || !unicode.IsPrint(r) }) {
		return 0
	}
	value = strings.TrimSpace(value)
	if strings.HasPrefix(value, "{") {
		var record struct {
			Workers          int64
			Address, Version string
			Metadata         map[string]string
		}
		if json.Unmarshal([]byte(value), &record) != nil || record.Workers < 1 || record.Workers > libcluster.MaxWorkers {
			return 0
		}
		return int(record.Workers)
	}
	if value == "" || strings.Trim(value, "0123456789") != "" {
		return 0
	}
	n, ok := new(big.Int).SetString(value, 10)
	if !ok || n.Sign() <= 0 || n.Cmp(big.NewInt(libcluster.MaxWorkers)) > 0 {
		return 0
	}
	return int(n.Int64())
}

// FuzzForeignWrites has strangers write anything, while two members are joined: both
// then hold the places that follow from what is recorded, or if that is more workers
// than there may be, those that they held before.
func FuzzForeignWrites(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x01a\x013\x01c\x01-\xc1a"))
	f.Add([]byte("\x03a/b\x012\x3e\x019\x3f\x00\xff"))
	f.Add([]byte("\x01z\x15{\"workers\":7,\"x\":[1]}\x01\xff\x011"))
	f.Add([]byte("\x01c\xff7\x01c\x0a2147483647\x01e\x0a2147483648"))
	f.Add([]byte("\x01c\x0a2147483647\x01a\x017"))
	f.Fuzz(func(t *testing.T, data []byte) {
		synctest.Test(t, func(t *testing.T) { foreignWrites(t, writes(data)) })
	})
}

func foreignWrites(t *testing.T, all []write) {
	registry := libclustertest.New()
	own := map[string]int{"b": 2, "d": 3}
	members := map[string]*libcluster.Cluster{}
	for _, id := range []string{"b", "d"} {
		c, err := libcluster.New(libcluster.Config{Key: "mailer", ID: id, Workers: own[id], Registry: registry})
		require.NoError(t, err)
		require.NoError(t, c.Join(t.Context()))
		defer func() { require.NoError(t, c.Leave(t.Context())) }()
		members[id] = c
	}
	synctest.Wait()
	records := map[string]string{}
	for _, w := range all {
		before := map[string]string{}
		for id, c := range members {
			before[id] = placeOf(c.State())
		}
		if w.gone {
			registry.Delete(cluster, w.id)
			delete(records, w.id)
		} else {
			registry.Put(cluster, w.id, []byte(w.value))
			records[w.id] = w.value
		}
		synctest.Wait()
		if _, total := places(registry.Members(cluster)); total > libcluster.MaxWorkers && own[w.id] == 0 {
			for id, c := range members {
				require.Equal(t, before[id], placeOf(c.State()), "%s after %q", id, all)
			}
		}
	}
	time.Sleep(2 * time.Second) // whose own record was overwritten rejoins
	synctest.Wait()

	var recorded []libcluster.Member
	for id, value := range records {
		if n := workersIn(id, value); n > 0 && own[id] == 0 {
			recorded = append(recorded, libcluster.Member{ID: id, Workers: n})
		}
	}
	for id, n := range own {
		recorded = append(recorded, libcluster.Member{ID: id, Workers: n})
	}
	want, total := places(recorded)
	if total > libcluster.MaxWorkers {
		return
	}
	for id, c := range members {
		state := c.State()
		i := slices.IndexFunc(want, func(p libcluster.Assignment) bool { return p.ID == id })
		require.Equal(t, placeOf(libcluster.State{Index: want[i].Index, Workers: own[id], Total: total}), placeOf(state), "%s after %q", id, all)
		got := c.Members()
		require.Len(t, got, len(want))
		for i, p := range got {
			require.Equal(t, want[i].ID, p.ID)
			require.Equal(t, want[i].Index, p.Index)
			require.Equal(t, want[i].Workers, p.Workers)
		}
	}
}
