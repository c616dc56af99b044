package heartbeats

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/kv"
)

var testKey = bytes.Repeat([]byte{7}, keySize)

func TestPacketsAreReadAsTheyWereWritten(t *testing.T) {
	many := make([]kv.Owner, 2*mostAccused)
	for i := range many {
		many[i] = kv.Owner(i + 1)
	}
	for _, p := range []packet{
		{from: 1, number: 1},
		{from: 1 << 62, number: 1 << 63, changed: true, accused: []kv.Owner{3, 4}},
		{from: 5, number: 2, accused: many},
		{from: 6, number: 3, last: true},
	} {
		b := p.encode(testKey)
		require.LessOrEqual(t, len(b), largest)
		read, ok := decode(b)
		require.True(t, ok)
		require.True(t, authentic(b, testKey))
		p.accused = p.accused[:min(len(p.accused), mostAccused)]
		require.Equal(t, p, read)
	}
}

func TestPacketOfAnotherKeyOrChangedIsNotAuthentic(t *testing.T) {
	b := packet{from: 1, number: 1, accused: []kv.Owner{2}}.encode(testKey)
	require.False(t, authentic(b, bytes.Repeat([]byte{8}, keySize)))
	for i := range b {
		changed := bytes.Clone(b)
		changed[i] ^= 1
		require.False(t, authentic(changed, testKey), "byte %d", i)
	}
}

func FuzzWhatIsNoPacketIsRefused(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte(magic))
	f.Add(packet{from: 1, number: 1, accused: []kv.Owner{2}}.encode(testKey))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, ok := decode(b)
		if !ok {
			return
		}
		require.Equal(t, len(b), headSize+8*len(p.accused)+macSize)
		authentic(b, testKey) // does not panic
	})
}

func TestRecordIsOnlyOfItsOwnLease(t *testing.T) {
	good := record{Address: "10.0.0.1:4433", Key: testKey, Silence: 250}
	read, err := parseRecord(good.put(5))
	require.NoError(t, err)
	require.Equal(t, good, read)

	for name, bad := range map[string]kv.Record{
		"no lease":       {Key: keyOf(5), Value: good.put(5).Value},
		"another's":      {Key: keyOf(6), Value: good.put(5).Value, Owner: 5},
		"garbage":        {Key: keyOf(5), Value: []byte("{"), Owner: 5},
		"no key":         record{Address: good.Address, Silence: 250}.put(5),
		"no silence":     record{Address: good.Address, Key: testKey}.put(5),
		"long silence":   record{Address: good.Address, Key: testKey, Silence: 1 << 62}.put(5),
		"no port":        record{Address: "10.0.0.1", Key: testKey, Silence: 250}.put(5),
		"no address":     record{Address: "0.0.0.0:4433", Key: testKey, Silence: 250}.put(5),
		"no port at all": record{Address: "10.0.0.1:0", Key: testKey, Silence: 250}.put(5),
	} {
		_, err := parseRecord(bad)
		require.Error(t, err, name)
	}
}
