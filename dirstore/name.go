package dirstore

import (
	"crypto/sha256"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/libcluster/libcluster/kv"
)

// What is in the folder of a space, besides what is foreign.
const (
	documents  = "s."   // and the number
	temporary  = "t."   // and the ID of a document that is being written
	heartbeats = "h."   // and the owner
	fullName   = "name" // the space's, if that of the folder is a shortened one
	unfinished = "new." // a folder beside those of the spaces: one that is being made
)

// longest is how long the names of folders are at most, but for the sum behind a shortened
// one, and maxName how long those of spaces are.
const (
	longest = 120
	maxName = 800
)

// folderName returns the name of the folder of a space. It is different for each space, also
// where upper and lower case are the same, and never a path or hidden.
func folderName(space string) string {
	const plain = "abcdefghijklmnopqrstuvwxyz0123456789-_"
	var b strings.Builder
	for i := range len(space) {
		if c := space[i]; strings.IndexByte(plain, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	name := b.String()
	if len(name) > longest {
		return fmt.Sprintf("%s~%x", name[:longest], sha256.Sum256([]byte(space)))
	}
	return name
}

// isShortened reports whether a folder has, as far as its name tells, a space with a longer name.
func isShortened(folder string) bool { return len(folder) > longest && folder[longest] == '~' }

// spaceOf returns the name of the space whose folder is called so; empty: there is none, or
// it is a shortened one.
func spaceOf(folder string) string {
	name, err := url.PathUnescape(folder)
	if err != nil || folderName(name) != folder {
		return ""
	}
	return name
}

func documentName(number int64) string { return documents + strconv.FormatInt(number, 10) }

// numberOf returns the number in the name of a document, or 0.
func numberOf(name string) int64 {
	number, err := strconv.ParseInt(strings.TrimPrefix(name, documents), 10, 64)
	if err != nil || number < 1 || name != documentName(number) {
		return 0
	}
	return number
}

func heartbeatName(owner kv.Owner) string { return heartbeats + strconv.FormatInt(int64(owner), 16) }

// ownerOf returns the owner in the name of a heartbeat's file, or 0.
func ownerOf(name string) kv.Owner {
	owner, err := strconv.ParseInt(strings.TrimPrefix(name, heartbeats), 16, 64)
	if err != nil || name != heartbeatName(kv.Owner(owner)) {
		return 0
	}
	return kv.Owner(owner)
}
