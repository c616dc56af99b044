package libcluster_test

import (
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/libcluster/libcluster"
)

// maxRecord is how long a record may be, as [libcluster.Config] documents it.
const maxRecord = 64 << 10

var (
	// anyName is what Key, Partition, Env and ID may be.
	anyName = rapid.StringOfN(
		rapid.RuneFrom([]rune(" .B a"), unicode.Letter, unicode.Mark, unicode.Number, unicode.Punct, unicode.Symbol).
			Filter(func(r rune) bool { return r != '/' && unicode.IsPrint(r) }),
		1, -1, 255)

	// anyText is dense in what JSON has to escape, and now and then is not
	// UTF-8, which JSON can't carry.
	anyText = rapid.OneOf(
		rapid.String(),
		rapid.StringOf(rapid.SampledFrom([]rune("\"\\/<>&\x00\x1f\x7f\n\u2028\u2029\ufffd{}é😀"))),
		rapid.SampledFrom([]string{"", "a", "\xff", "é\xc3", "\xed\xa0\x80"}),
	)

	anyMember = rapid.Custom(func(t *rapid.T) libcluster.Member {
		return libcluster.Member{
			ID:       anyName.Draw(t, "ID"),
			Workers:  rapid.IntRange(1, libcluster.MaxWorkers).Draw(t, "Workers"),
			Address:  anyText.Draw(t, "Address"),
			Version:  anyText.Draw(t, "Version"),
			Metadata: rapid.MapOfN(anyText, anyText, 0, 8).Draw(t, "Metadata"),
		}
	})
)

// requireSameMember compares as readers do: no metadata and empty metadata are
// the same.
func requireSameMember(t require.TestingT, want, got libcluster.Member) {
	if len(want.Metadata) == 0 && len(got.Metadata) == 0 {
		want.Metadata, got.Metadata = nil, nil
	}
	require.Equal(t, want, got)
}

// isText reports whether all that a member says is valid UTF-8.
func isText(m libcluster.Member) bool {
	for k, v := range m.Metadata {
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return false
		}
	}
	return utf8.ValidString(m.Address) && utf8.ValidString(m.Version)
}

func TestPublishedMemberIsReadBackAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := anyMember.Draw(t, "member")
		_, err := libcluster.New(libcluster.Config{
			Key: "k", Registry: libcluster.Static(0, libcluster.MaxWorkers),
			ID: m.ID, Workers: m.Workers, Address: m.Address, Version: m.Version, Metadata: m.Metadata,
		})
		if !isText(m) {
			require.ErrorContains(t, err, "UTF-8")
			return
		}
		require.NoError(t, err, "what New refuses need not be read back")
		read, err := libcluster.ParseMember(m.ID, m.Record())
		require.NoError(t, err)
		requireSameMember(t, m, read)
	})
}

func TestRecordOfMemberWithNothingElseToSayIsItsPlainCount(t *testing.T) {
	for _, workers := range []int{1, 2, 10, 2147483647} {
		for _, metadata := range []map[string]string{nil, {}} {
			m := libcluster.Member{ID: "a", Workers: workers, Metadata: metadata}
			require.Equal(t, strconv.Itoa(workers), string(m.Record()))
		}
	}
}

func TestRecordOfMemberWithMoreToSayIsJSON(t *testing.T) {
	for want, m := range map[string]libcluster.Member{
		`{"workers":2,"address":"10.0.0.1:80"}`:      {ID: "a", Workers: 2, Address: "10.0.0.1:80"},
		`{"workers":2,"version":"v1"}`:               {ID: "a", Workers: 2, Version: "v1"},
		`{"workers":2,"metadata":{"a":"1","b":"2"}}`: {ID: "a", Workers: 2, Metadata: map[string]string{"b": "2", "a": "1"}},
	} {
		require.Equal(t, want, string(m.Record()))
	}
}

func TestWhatAPersonMayWriteIsRead(t *testing.T) {
	for name, c := range map[string]struct {
		record string
		want   libcluster.Member
	}{
		"a count":                    {"3", libcluster.Member{Workers: 3}},
		"the largest count":          {"2147483647", libcluster.Member{Workers: libcluster.MaxWorkers}},
		"space around a count":       {" 3\n", libcluster.Member{Workers: 3}},
		"leading zeros are decimal":  {"0010", libcluster.Member{Workers: 10}},
		"space around JSON":          {"\t{ \"workers\" : 3 }\r\n", libcluster.Member{Workers: 3}},
		"fields of a later release":  {`{"workers":3,"zone":{"name":"east"},"weights":[1,2]}`, libcluster.Member{Workers: 3}},
		"fields in another order":    {`{"version":"v1","workers":3}`, libcluster.Member{Workers: 3, Version: "v1"}},
		"a field that is null":       {`{"workers":3,"address":null}`, libcluster.Member{Workers: 3}},
		"empty metadata":             {`{"workers":3,"metadata":{}}`, libcluster.Member{Workers: 3}},
		"as much as a record may be": {strings.Repeat(" ", maxRecord-1) + "3", libcluster.Member{Workers: 3}},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := libcluster.ParseMember("a", []byte(c.record))
			require.NoError(t, err)
			c.want.ID = "a"
			requireSameMember(t, c.want, m)
		})
	}
}

func TestForeignRecordIsRefusedAndTheTroubleNamed(t *testing.T) {
	const neither, outside = "neither a worker count nor a JSON object", "outside 1 to 2147483647"
	for name, c := range map[string]struct{ record, says string }{
		"nothing":                        {"", "empty"},
		"only space":                     {" \n", "empty"},
		"a negative count":               {"-1", neither},
		"a count with a sign":            {"+1", neither},
		"zero":                           {"0", outside},
		"an exponent":                    {"1e3", neither},
		"a fraction":                     {"1.0", neither},
		"hexadecimal":                    {"0x10", neither},
		"underscores":                    {"1_000", neither},
		"two counts":                     {" 1 2", neither},
		"digits that are not ASCII":      {"٣", neither},
		"a word":                         {"three", `record "three"`},
		"one more than may be":           {"2147483648", "2147483648"},
		"more than 64 bits":              {"99999999999999999999999", outside},
		"a long row of digits":           {strings.Repeat("9", maxRecord), outside},
		"a value too long to read":       {strings.Repeat(" ", maxRecord) + "3", "65537 bytes"},
		"binary":                         {"\x00\x01\xfe\xff", neither},
		"a byte order mark":              {"\ufeff3", neither},
		"null":                           {"null", neither},
		"a list":                         {"[]", neither},
		"a string":                       {`"3"`, neither},
		"the beginning of an object":     {"{", "JSON"},
		"an object without a count":      {"{}", "Workers 0"},
		"zero in an object":              {`{"workers":0}`, "Workers 0"},
		"a negative count in an object":  {`{"workers":-1}`, "Workers -1"},
		"too many in an object":          {`{"workers":2147483648}`, "Workers 2147483648"},
		"more than 64 bits in an object": {`{"workers":99999999999999999999}`, "99999999999999999999"},
		"a long number in an object":     {`{"workers":` + strings.Repeat("9", 60_000) + "}", "JSON"},
		"a fraction in an object":        {`{"workers":1.5}`, "1.5"},
		"a string for a count":           {`{"workers":"2"}`, "string"},
		"null for a count":               {`{"workers":null}`, "Workers 0"},
		"something after the object":     {`{"workers":2} 3`, "after top-level value"},
		"metadata that is no strings":    {`{"workers":2,"metadata":{"a":1}}`, "metadata"},
		"very deep JSON":                 {`{"workers":2,"x":` + strings.Repeat("[", 20_000), "JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := libcluster.ParseMember("a", []byte(c.record))
			require.ErrorContains(t, err, c.says)
			require.Less(t, len(err.Error()), 300, "it goes to a log")
			require.Zero(t, m)
		})
	}
}

func TestRecordUnderAnIDThatNobodyMayHaveIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ id, says string }{
		"no ID":                   {"", "ID"},
		"a key below":             {"a/b", "'/'"},
		"control":                 {"a\n", "printable"},
		"text that is turned":     {"a\u202e", "printable"},
		"not UTF-8":               {"\xff", "UTF-8"},
		"more than may be":        {strings.Repeat("x", 256), "256 bytes"},
		"more bytes than letters": {strings.Repeat("é", 128), "256 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := libcluster.ParseMember(c.id, []byte("1"))
			require.ErrorContains(t, err, c.says)
		})
	}
}

func FuzzParseMember(f *testing.F) {
	for _, record := range []string{
		"3", " 3\n", "007", "-1", "2147483648", "{", "{}", "null", "\x00\xff",
		`{"workers":2,"address":"10.0.0.1:80","version":"v1","metadata":{"zone":"east"},"later":[1]}`,
		"{\"workers\":2,\"address\":\"\xff\\ud800<\"}", `{"workers":1,"WORKERS":2,"metadata":{"a":null,"a":"b"}}`,
	} {
		f.Add("0f3a", []byte(record))
	}
	f.Add("a/b", []byte("1"))
	f.Fuzz(func(t *testing.T, id string, record []byte) {
		m, err := libcluster.ParseMember(id, record)
		if err != nil {
			require.Zero(t, m)
			return
		}
		require.Equal(t, id, m.ID)
		require.Positive(t, m.Workers)
		require.LessOrEqual(t, m.Workers, libcluster.MaxWorkers)
		require.True(t, isText(m))
		again := m.Record()
		if len(again) > maxRecord {
			return // escaping made it longer; New would refuse to publish it
		}
		read, err := libcluster.ParseMember(id, again)
		require.NoError(t, err)
		requireSameMember(t, m, read)
	})
}
