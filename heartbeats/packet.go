package heartbeats

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/libcluster/libcluster/internal/hostport"
	"github.com/libcluster/libcluster/kv"
)

// prefix is that of the records in which leases say how they are heard. Those who use the
// wrapped space do not see them.
const prefix = "/heartbeats/"

// record is what a lease says of itself in the store.
type record struct {
	// Address is HOST:PORT, where it listens.
	Address string `json:"address"`
	// Key authenticates what it sends. It is another one each time a process
	// opens its port.
	Key []byte `json:"key"`
	// Silence is after how many milliseconds without a packet it is silent.
	Silence int64 `json:"silence"`
}

func keyOf(owner kv.Owner) string { return prefix + strconv.FormatInt(int64(owner), 16) }

// put is the record for the store.
func (r record) put(owner kv.Owner) kv.Record {
	value, _ := json.Marshal(r) // cannot fail
	return kv.Record{Key: keyOf(owner), Value: value, Owner: owner}
}

// parseRecord reads what a lease says of itself. What it says of another one does not count.
func parseRecord(found kv.Record) (record, error) {
	var r record
	if found.Owner == 0 || found.Key != keyOf(found.Owner) {
		return r, fmt.Errorf("%q is under lease %x", found.Key, found.Owner)
	}
	if err := json.Unmarshal(found.Value, &r); err != nil {
		return r, fmt.Errorf("%q: %w", found.Key, err)
	}
	const most = time.Hour
	if len(r.Key) != keySize || r.Silence <= 0 || r.Silence > most.Milliseconds() {
		return r, fmt.Errorf("%q: is no record of heartbeats", found.Key)
	}
	host, _, err := hostport.Split(r.Address, false)
	if err == nil {
		err = hostport.Reachable(host)
	}
	return r, err
}

const (
	magic   = "lchb1"
	keySize = 32
	macSize = 16
	// mostAccused is how many a packet accuses at most, so that it is never cut in pieces.
	mostAccused = 128
	headSize    = len(magic) + 8 + 8 + 1
	flagChanged = 1
	flagLast    = 2
	largest     = headSize + 8*mostAccused + macSize
)

// packet is one heartbeat.
type packet struct {
	from    kv.Owner
	number  uint64     // grows with each packet of a lease: an old one that is sent again says nothing
	changed bool       // there is something new in the store
	last    bool       // the space is closed, and the lease is to pass by itself
	accused []kv.Owner // whom it does not hear any more, while it hears most of the others
}

// encode writes a packet, with what only those can make who read the record.
func (p packet) encode(key []byte) []byte {
	b := make([]byte, 0, largest)
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint64(b, uint64(p.from))
	b = binary.BigEndian.AppendUint64(b, p.number)
	flags := byte(0)
	if p.changed {
		flags |= flagChanged
	}
	if p.last {
		flags |= flagLast
	}
	b = append(b, flags)
	for _, owner := range p.accused[:min(len(p.accused), mostAccused)] {
		b = binary.BigEndian.AppendUint64(b, uint64(owner))
	}
	return append(b, mac(key, b)...)
}

func mac(key, b []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(b)
	return h.Sum(nil)[:macSize]
}

// decode reads a packet, which is not to be believed before it is authentic.
func decode(b []byte) (p packet, ok bool) {
	if len(b) < headSize+macSize || len(b) > largest || (len(b)-headSize-macSize)%8 != 0 || !bytes.HasPrefix(b, []byte(magic)) {
		return p, false
	}
	at := len(magic)
	p.from = kv.Owner(binary.BigEndian.Uint64(b[at:]))
	p.number = binary.BigEndian.Uint64(b[at+8:])
	p.changed, p.last = b[at+16]&flagChanged != 0, b[at+16]&flagLast != 0
	for at += 17; at < len(b)-macSize; at += 8 {
		p.accused = append(p.accused, kv.Owner(binary.BigEndian.Uint64(b[at:])))
	}
	return p, true
}

// authentic reports whether a packet was made with a key.
func authentic(b, key []byte) bool {
	end := len(b) - macSize
	return hmac.Equal(b[end:], mac(key, b[:end]))
}
