package peers

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
)

// lotsFile is there until the server has served for the first time.
const lotsFile = "libcluster.lots"

// lots are what a new cluster is named by: a random text of each voter, by address. While a
// peer has not decided by which lots it makes a cluster, it has its own only.
//
// A lot belongs to a data folder, and goes with it. So a peer that has lost its folder never
// makes the cluster again that it has helped to make: its vote and what it has acknowledged are
// forgotten. And peers that have all lost theirs make another cluster, which refuses old folders.
type lots map[string]string

// readLots returns the lots that are kept in a data folder, if there are any.
func readLots(dir string) (lots, error) {
	name := filepath.Join(dir, lotsFile)
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return lots{}, nil
	}
	if err != nil {
		return nil, err
	}
	l := lots{}
	if err := json.Unmarshal(text, &l); err != nil {
		return nil, fmt.Errorf("%s: %w; remove it", name, err)
	}
	return l, nil
}

// keep returns when a failure of the machine cannot take the lots away any more.
func (l lots) keep(dir string) error {
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	name := filepath.Join(dir, lotsFile)
	file, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err := errors.Join(err, fileutil.Fsync(file), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), name); err != nil {
		return err
	}
	folder, err := fileutil.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(fileutil.Fsync(folder), folder.Close())
}

// forgetLots has the folder draw another lot if it is ever empty again.
func forgetLots(dir string) error {
	if err := os.Remove(filepath.Join(dir, lotsFile)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// drawn returns the own lot of a folder without data, which is drawn if there is none.
func (l lots) drawn(own string) lots {
	if l[own] == "" {
		return lots{own: rand.Text()}
	}
	return lots{own: l[own]}
}

// of reports whether these are the lots of all voters.
func (l lots) of(voters []string) bool {
	return slices.Equal(slices.Sorted(maps.Keys(l)), voters)
}

// token is what etcd computes the IDs of a new cluster and of its servers from, together with
// their addresses. Servers of another cluster are refused.
func (l lots) token() string {
	sum := sha256.New()
	for _, address := range slices.Sorted(maps.Keys(l)) {
		fmt.Fprintln(sum, address, l[address])
	}
	return "libcluster-" + hex.EncodeToString(sum.Sum(nil)[:16])
}
