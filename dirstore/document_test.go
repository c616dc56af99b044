package dirstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/kv"
	"github.com/libcluster/libcluster/kv/kvtest"
)

// twins are a document and a space in memory that do the same. Their revisions differ: in memory
// a lease that begins is no commit.
type twins struct {
	*testing.T
	rand   *rand.Rand
	d      *document
	m      kv.Space
	w      kv.Watch
	inMem  map[int64]int64 // the revision in memory of a document's
	owners []kv.Owner
}

func newTwins(t *testing.T, seed uint64) *twins {
	m, err := kvtest.NewMemory().Open(t.Context(), "space")
	require.NoError(t, err)
	w, err := m.Watch(t.Context(), "", 0)
	require.NoError(t, err)
	d := genesis("store", newID(), false)
	return &twins{T: t, rand: rand.New(rand.NewPCG(seed, 0)), d: d, m: m, w: w, inMem: map[int64]int64{}}
}

// step does one thing at random to both, and compares.
func (w *twins) step() {
	switch w.rand.IntN(8) {
	case 0:
		owner := kv.Owner(w.rand.Int64N(1<<40) + 1)
		_, err := w.m.Begin(w.Context(), owner, time.Hour)
		w.same(begin(owner, time.Hour), err)
		w.owners = append(w.owners, owner)
	case 1:
		owner := w.owner()
		w.same(end(owner), w.m.End(w.Context(), owner))
	case 2:
		owner := w.owner()
		_, err := w.m.Renew(w.Context(), owner)
		w.same(renew(owner), err)
	default:
		w.commit(w.tx())
	}
	file, err := w.d.encode()
	require.NoError(w, err)
	read, err := decode(w.d.number, file)
	require.NoError(w, err)
	require.Equal(w, w.texts(w.d.list("")), w.texts(read.list("")))
	require.True(w, maps.Equal(w.d.leases, read.leases))
	require.Equal(w, w.d.changes(""), read.changes(""))
	w.d = read
}

// owner returns one that lives, or has lived, or never.
func (w *twins) owner() kv.Owner {
	if len(w.owners) == 0 {
		return 7
	}
	return w.owners[w.rand.IntN(len(w.owners))]
}

func (w *twins) same(c change, inMemory error) {
	n, err := c(w.d, newID())
	require.Equal(w, errors.Is(inMemory, kv.ErrEnded), errors.Is(err, kv.ErrEnded), "%v, and in memory %v", err, inMemory)
	if n != nil {
		w.advance(n)
	}
}

// advance goes to the next document, and compares what has changed.
func (w *twins) advance(n *document) {
	changes := n.changes("")
	require.Equal(w, w.d.number+1, n.number)
	require.Equal(w, w.d.id, n.prev)
	w.d = n
	if len(changes) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(w.Context(), 30*time.Second)
	defer cancel()
	told, err := w.w.Next(ctx)
	require.NoError(w, err, "in memory nothing has changed; here %v", changes)
	w.inMem[n.number] = told.Mark.Revision
	slices.SortFunc(told.Records, func(a, b kv.Change) int { return cmp.Compare(a.Key, b.Key) })
	require.Len(w, changes, len(told.Records))
	for i, c := range changes {
		require.Equal(w, told.Records[i].Key, c.Key)
		require.Equal(w, told.Records[i].Gone, c.Gone)
		require.Equal(w, string(told.Records[i].Value), string(c.Value))
		require.Equal(w, told.Records[i].Owner, c.Owner)
		require.Equal(w, told.Records[i].Created, w.inMem[c.Created])
	}
}

func (w *twins) texts(records []kv.Record) []string {
	var all []string
	for _, r := range records {
		all = append(all, fmt.Sprintf("%q %q %d %d %d", r.Key, r.Value, r.Owner, w.inMem[r.Version], w.inMem[r.Created]))
	}
	return all
}

// tx returns a transaction for the document. Often its conditions hold.
func (w *twins) tx() kv.Tx {
	var tx kv.Tx
	for k := range 5 {
		key := fmt.Sprintf("%c/%d", "ab"[k%2], k)
		r := w.d.get(key)
		switch w.rand.IntN(6) {
		case 0:
			owner := kv.Owner(0)
			if w.rand.IntN(2) == 0 {
				owner = w.owner()
			}
			tx.Put = append(tx.Put, kv.Record{Key: key, Value: []byte(fmt.Sprint(w.rand.IntN(3))), Owner: owner})
		case 1:
			tx.Delete = append(tx.Delete, key)
		case 2:
			tx.If = append(tx.If, kv.AtVersion(key, r.Version))
		case 3:
			if w.rand.IntN(3) == 0 {
				tx.If = append(tx.If, kv.OwnedBy(key, w.owner()))
			} else {
				tx.If = append(tx.If, kv.OwnedBy(key, r.Owner))
			}
		}
	}
	return tx
}

func (w *twins) commit(tx kv.Tx) {
	result, n, err := w.d.commit(tx, newID())
	inMemory := tx
	inMemory.If = slices.Clone(tx.If)
	for i, c := range inMemory.If {
		inMemory.If[i].Version = w.inMem[c.Version]
	}
	var listed []kv.Record
	inMemory.Each = func(r kv.Record) error { listed = append(listed, r); return nil }
	want, e := w.m.Commit(w.Context(), inMemory)
	require.Equal(w, errors.Is(e, kv.ErrEnded), errors.Is(err, kv.ErrEnded))
	if err != nil {
		return
	}
	require.Equal(w, want.Done, result.Done)
	require.Equal(w, len(want.Records), len(result.Records))
	for i, r := range want.Records {
		require.Equal(w, fmt.Sprint(r.Key, string(r.Value), r.Owner, r.Version), fmt.Sprint(result.Records[i].Key,
			string(result.Records[i].Value), result.Records[i].Owner, w.inMem[result.Records[i].Version]))
	}
	if n != nil {
		w.advance(n)
	}
	if result.Done {
		require.Equal(w, result.Mark, w.d.mark())
		require.Len(w, w.d.list(""), len(listed))
		for i, r := range w.d.list("") {
			require.Equal(w, listed[i].Version, w.inMem[r.Version])
			require.Equal(w, listed[i].Key, r.Key)
		}
	}
}

func TestDocumentDoesWhatASpaceInMemoryDoes(t *testing.T) {
	for seed := range uint64(40) {
		w := newTwins(t, seed)
		for range 150 {
			w.step()
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func TestDocumentNeverChanges(t *testing.T) {
	w := newTwins(t, 1)
	var files [][]byte
	var documents []*document
	for range 100 {
		file, err := w.d.encode()
		require.NoError(t, err)
		files, documents = append(files, file), append(documents, w.d)
		w.step()
	}
	for i, d := range documents {
		file, err := d.encode()
		require.NoError(t, err)
		require.Equal(t, string(files[i]), string(file))
	}
}

func TestWhatIsDoubtedEndsUnlessItIsRenewed(t *testing.T) {
	d := genesis("store", newID(), false)
	do := func(c change) bool {
		n, err := c(d, newID())
		require.NoError(t, err)
		if n != nil {
			d = n
		}
		return n != nil
	}
	require.True(t, do(begin(1, time.Hour)))
	require.False(t, do(bury(beats{1: 0})), "nobody doubts it")
	require.True(t, do(doubt(beats{1: 0})))
	require.False(t, do(doubt(beats{1: 0})), "it is doubted")
	require.True(t, do(renew(1)))
	require.False(t, do(bury(beats{1: 0})), "it was renewed")
	require.False(t, do(bury(beats{1: 1})), "nobody doubts it any more")
	require.False(t, do(doubt(beats{1: 0})), "it was renewed since")
	require.True(t, do(doubt(beats{1: 1})))
	require.False(t, do(bury(beats{1: 0})), "it was renewed since")
	require.True(t, do(bury(beats{1: 1})))
	_, err := renew(1)(d, newID())
	require.ErrorIs(t, err, kv.ErrEnded)
}

func TestWhatIsNoDocumentIsGarbage(t *testing.T) {
	d := genesis("store", newID(), false)
	file, err := d.encode()
	require.NoError(t, err)
	_, err = decode(2, file)
	require.ErrorIs(t, err, errGarbage, "it has another number")
	for n := range file {
		_, err := decode(1, file[:n])
		require.ErrorIs(t, err, errGarbage, "it ends early")
		broken := slices.Clone(file)
		broken[n] ^= 1
		_, err = decode(1, broken)
		require.ErrorIs(t, err, errGarbage)
	}
}

func FuzzDecode(f *testing.F) {
	file, err := genesis("store", newID(), false).encode()
	require.NoError(f, err)
	f.Add(file)
	f.Add([]byte("libcluster 1 1 a b\n{}"))
	f.Fuzz(func(t *testing.T, file []byte) {
		d, err := decode(1, file)
		if err == nil {
			d.void(d.sign).list("")
		}
	})
}
