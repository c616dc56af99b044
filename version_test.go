package libcluster

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestWhichVersionIsNewer(t *testing.T) {
	// Each is newer than all before it.
	order := []string{
		"0", "0.0.1", "0.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2",
		"1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.1-0.20260102030405-f00d", "1.1-5-gf00d", "1.1a", "1.1-rc2",
		"1.1-rc10", "1.1", "1.1.0.1", "1.2", "1.9", "1.10", "1.99999999999999999999", "1.100000000000000000000", "2",
		"10-1", "10", "2026.01.02", "2026.1.3", "20260102",
	}
	for i, a := range order {
		for j, b := range order {
			require.Equal(t, i > j, newerVersion(a, b), "%s newer than %s", a, b)
		}
	}
	for _, same := range [][]string{
		{"1.2", "v1.2", "V1.2.0", "1.2.0.0", "01.002", "1.2+build.5", "1.2.0+", "1.2+ä"},
		{"1.2-rc1", "1.2rc1", "1.2.rc1", "1.2_rc1", "1.2-RC1", "1.2.0-rc.1", "1.2-rc-01", "v1.2rc1+dirty"},
		{"0", "0.0", "v0", "000"},
	} {
		for _, a := range same {
			for _, b := range same {
				require.False(t, newerVersion(a, b), "%s newer than %s", a, b)
			}
			require.True(t, newerVersion("3", a), a)
			require.True(t, newerVersion(a, "0-a"), a)
		}
	}
	for _, none := range []string{
		"", "x", "v", "latest", "build42", "1..2", "1.", ".1", "1-", "1.2-", "1.2-rc-", "1.2-rc--", " 1", "1 ", "1.2\n", "-1",
		"1,2", "1.2-ä", "１.２", "vv1", "+1", "9fceb02", "f00dcafe", "2rc1", "1.2 rc1", "1.2\x00",
	} {
		for _, other := range []string{"0", "1.2", "999", "1.2-rc1", "", none} {
			require.False(t, newerVersion(none, other), "%q newer than %q", none, other)
			require.False(t, newerVersion(other, none), "%q newer than %q", other, none)
		}
	}
}

// Sorted by an order that is not total and transitive, some pair stands the wrong way round.
func TestOrderOfVersionsIsTotal(t *testing.T) {
	texts := []string{""}
	var versions []version
	for i := 0; i < len(texts); i++ {
		if v, ok := parseVersion(texts[i]); ok {
			versions = append(versions, v)
		}
		for _, next := range "01ab.-" {
			if len(texts[i]) < 5 {
				texts = append(texts, texts[i]+string(next))
			}
		}
	}
	require.Greater(t, len(versions), 500)
	slices.SortFunc(versions, version.compare)
	for i, a := range versions {
		for _, b := range versions[i:] {
			if a.compare(b) > 0 || b.compare(a) != -a.compare(b) {
				t.Fatalf("%v and %v: %d and %d", a, b, a.compare(b), b.compare(a))
			}
		}
	}
	t.Logf("%d versions of %d texts", len(versions), len(texts))
}

func TestOrderOfVersionsIsThatOfSemver(t *testing.T) {
	type semver struct {
		numbers [3]uint64
		pre     []any // a number or letters
	}
	text := func(v semver) string {
		text := fmt.Sprintf("%d.%d.%d", v.numbers[0], v.numbers[1], v.numbers[2])
		separator := "-"
		for _, id := range v.pre {
			text += separator + fmt.Sprint(id)
			separator = "."
		}
		return text
	}
	order := func(a, b any) int {
		x, xIsNumber := a.(uint64)
		y, yIsNumber := b.(uint64)
		switch {
		case xIsNumber && yIsNumber:
			return cmp.Compare(x, y)
		case xIsNumber:
			return -1
		case yIsNumber:
			return 1
		}
		return strings.Compare(a.(string), b.(string))
	}
	number := rapid.OneOf(rapid.Uint64Range(0, 11), rapid.Uint64())
	versions := rapid.Custom(func(t *rapid.T) (v semver) {
		for i := range v.numbers {
			v.numbers[i] = rapid.SampledFrom([]uint64{0, 1, 9, 10}).Draw(t, "number")
		}
		v.pre = rapid.SliceOfN(rapid.OneOf(number.AsAny(), rapid.StringMatching("[ab]{1,2}").AsAny()), 0, 3).Draw(t, "pre")
		return v
	})
	rapid.Check(t, func(t *rapid.T) {
		a := versions.Draw(t, "a")
		b := versions.Draw(t, "b")
		if rapid.Bool().Draw(t, "same numbers") {
			b.numbers = a.numbers
		}
		want := slices.Compare(a.numbers[:], b.numbers[:])
		if want == 0 && (len(a.pre) == 0 || len(b.pre) == 0) {
			want = cmp.Compare(len(b.pre), len(a.pre))
		} else if want == 0 {
			want = slices.CompareFunc(a.pre, b.pre, order)
		}
		require.Equal(t, want > 0, newerVersion(text(a), text(b)), "%s and %s", text(a), text(b))
	})
}

func FuzzNewerVersion(f *testing.F) {
	f.Add("1.9", "1.10", "v1.10.0")
	f.Add("1.2.0-rc1", "1.2", "1.2.0-rc.2+build")
	f.Add("1.2-1a", "1.2-a1", "1.2.0-1.a")
	f.Add("", "x", "9fceb02")
	f.Add("2026.01.02", "1.2-5-gf00d", "1.1.1A")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		require.False(t, newerVersion(a, a))
		require.False(t, newerVersion(a, b) && newerVersion(b, a))
		require.False(t, newerVersion(a, b) && newerVersion(b, c) && !newerVersion(a, c))
		if _, ok := parseVersion(b); ok { // what is as new as b is the same to all others
			require.False(t, newerVersion(a, c) && !newerVersion(a, b) && !newerVersion(b, c))
		} else {
			require.False(t, newerVersion(a, b) || newerVersion(b, a))
		}
	})
}
