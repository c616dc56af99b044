package libcluster

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// newerVersion reports whether version a is newer than version b.
//
// A version is numbers with dots between them, such as 1.10.2. It may begin with v. The
// numbers may have any length, and 1.10 is newer than 1.9. Zeros at the end do not count: 1.2
// is 1.2.0. What follows the numbers makes the version a pre-release, which is older than the
// numbers alone: 1.2.0-rc1 and 1.2rc1 are older than 1.2.0, and newer than 1.1. It begins
// with a hyphen, a dot, an underscore, or, if there is a dot between the numbers, with a letter.
//
// Pre-releases of the same numbers are compared by their runs of digits and runs of letters:
// digits as numbers, letters by the alphabet, digits are older than letters, and of two that
// begin in the same way the longer is newer. If all that stands between dots is either digits
// or letters, the order is that of semver.org; besides, rc10 is newer than rc2. Neither
// the case nor what follows a plus counts.
//
// After a hyphen semver.org sees a pre-release also in what git describe prints: so
// 1.2.0-5-gf00d, the fifth commit after 1.2.0, is older than 1.2.0.
//
// Any other text, such as the empty one, is newer than no version, and no version is newer
// than it: a slip in one version must not stop a whole cluster. Commit hashes have no
// order. They are no versions, except for those without a letter.
func newerVersion(a, b string) bool {
	x, okA := parseVersion(a)
	y, okB := parseVersion(b)
	return okA && okB && x.compare(y) > 0
}

// version is the numbers of a version, without zeros at the end, and the runs of digits
// and of letters of its pre-release, if it is one.
type version struct{ numbers, pre []string }

var (
	versionText = regexp.MustCompile(`^v?([0-9]+(?:\.[0-9]+)*)([-._]?)([0-9a-z]+(?:[-._]+[0-9a-z]+)*)?$`)
	versionRun  = regexp.MustCompile(`[0-9]+|[a-z]+`)
)

func parseVersion(text string) (v version, ok bool) {
	text, _, _ = strings.Cut(text, "+")
	parts := versionText.FindStringSubmatch(strings.ToLower(text))
	if parts == nil {
		return version{}, false
	}
	numbers, separator, pre := parts[1], parts[2], parts[3]
	switch {
	case pre == "" && separator != "":
		return version{}, false
	case pre != "" && separator == "" && !strings.Contains(numbers, "."):
		return version{}, false // 9fceb02 is a commit
	}
	v = version{strings.Split(numbers, "."), versionRun.FindAllString(pre, -1)}
	for n := len(v.numbers); n > 0 && strings.Trim(v.numbers[n-1], "0") == ""; n-- {
		v.numbers = v.numbers[:n-1]
	}
	return v, true
}

func (v version) compare(w version) int {
	if c := slices.CompareFunc(v.numbers, w.numbers, compareRuns); c != 0 {
		return c
	}
	if len(v.pre) == 0 || len(w.pre) == 0 {
		return cmp.Compare(len(w.pre), len(v.pre)) // a pre-release is older than none
	}
	return slices.CompareFunc(v.pre, w.pre, compareRuns)
}

// compareRuns compares two runs, each of digits or of letters.
func compareRuns(x, y string) int {
	if x[0] <= '9' && y[0] <= '9' {
		x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
		return cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y))
	}
	return strings.Compare(x, y) // a digit is less than a letter
}
