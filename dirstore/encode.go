package dirstore

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/libcluster/libcluster/kv"
)

// signLength is more than the first line of any document has.
const signLength = 160

// errGarbage is what decoding anything else than a document says.
var errGarbage = errors.New("it is no document")

// stored is the text of a document, but for its first line. That has the number, the ID and
// a sum of it all.
type stored struct {
	Prev    string             `json:"prev"`
	Store   string             `json:"store"`
	Network bool               `json:"network,omitempty"`
	Oldest  int64              `json:"oldest"`
	Leases  map[kv.Owner]lease `json:"leases,omitempty"`
	Records []kv.Record        `json:"records,omitempty"`
	Gone    []string           `json:"gone,omitempty"`
}

// encode returns the file of a document, and completes the document by what depends on it.
func (d *document) encode() ([]byte, error) {
	records := slices.SortedFunc(maps.Values(d.records), func(a, b kv.Record) int { return cmp.Compare(a.Key, b.Key) })
	body, err := json.Marshal(stored{d.prev, d.store, d.network, d.oldest, d.leases, records, d.gone})
	if err != nil {
		return nil, err
	}
	d.sign = firstLine(d.number, d.id, body)
	file := append([]byte(d.sign), body...)
	d.size = len(file)
	return file, nil
}

func firstLine(number int64, id string, body []byte) string {
	head := fmt.Sprintf("libcluster 1 %d %s", number, id)
	sum := sha256.New()
	sum.Write([]byte(head))
	sum.Write(body)
	return fmt.Sprintf("%s %x\n", head, sum.Sum(nil))
}

// decode reads the file of the document with a number.
func decode(number int64, file []byte) (*document, error) {
	sign := signOf(file)
	words := strings.Fields(sign)
	if len(words) != 5 {
		return nil, errGarbage
	}
	body := file[len(sign):]
	if firstLine(number, words[3], body) != sign {
		return nil, errGarbage
	}
	var s stored
	if err := json.Unmarshal(body, &s); err != nil {
		return nil, errGarbage
	}
	d := &document{
		number: number, id: words[3], prev: s.Prev, sign: sign, size: len(file), store: s.Store, network: s.Network,
		oldest: s.Oldest, leases: s.Leases, records: make(map[string]kv.Record, len(s.Records)), gone: s.Gone,
	}
	for _, r := range s.Records {
		d.records[r.Key] = r
	}
	return d, nil
}

// signOf returns the first line of a file, or its first bytes if that is no document's.
func signOf(file []byte) string {
	file = file[:min(len(file), signLength)]
	if line, _, found := strings.Cut(string(file), "\n"); found {
		return line + "\n"
	}
	return string(file)
}

// idIn returns the ID in the first line of a document, or "".
func idIn(sign string) string {
	if words := strings.Fields(sign); len(words) == 5 {
		return words[3]
	}
	return ""
}

// void is what follows a document if garbage has its number: a commit that has changed
// nothing. All take it for the same.
func (d *document) void(sign string) *document {
	sum := sha256.Sum256([]byte("void after " + d.id))
	n := d.next(hex.EncodeToString(sum[:16]))
	n.sign = sign
	return n
}
