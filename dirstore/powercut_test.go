package dirstore_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/dirstore"
)

// A power cut may take what files contain, but for the two lowest.
func TestSpaceOutlastsAPowerCutAfterABurst(t *testing.T) {
	t.Parallel()
	for what, damaged := range map[string]int64{"all documents are whole": 0, "garbage has the lowest number to keep": 36} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			const keep, last = 4, 40 // by which 36 is the lowest that is kept
			dir := shm(t)
			synced := map[string]bool{}
			store := dirstore.Dir(dir)
			store.Keep(keep)
			store.Around(func(call, name string, do func() error) error {
				if call == "sync" {
					synced[name] = true
				}
				return do()
			})
			space := open(t, store)
			values := map[int64]string{}
			for number := int64(2); number <= last; number++ {
				if number == damaged {
					require.NoError(t, os.WriteFile(path(dir, number), []byte("garbage"), 0o600))
					continue
				}
				values[number] = fmt.Sprint("value ", number)
				require.Equal(t, number, put(t, space, "k", values[number], 0))
			}

			bottom := lowest(t, dir)
			require.Greater(t, bottom, int64(last-3*keep), "old ones are removed all the same")
			for number := bottom; number <= last; number++ {
				if name := fmt.Sprint("space/s.", number); !synced[name] {
					require.NoError(t, os.Truncate(path(dir, number), 0))
				}
			}
			for range 2 {
				newcomer := open(t, dirstore.Dir(dir))
				require.Equal(t, values[bottom+1], string(get(t, newcomer, "k").Value))
				values[bottom+1] = "after"
				require.Greater(t, put(t, newcomer, "k", "after", 0), int64(last))
			}
		})
	}
}

func path(dir string, number int64) string { return fmt.Sprint(dir, "/space/s.", number) }

// lowest returns the lowest number that is there.
func lowest(t *testing.T, dir string) (number int64) {
	t.Helper()
	for number = 1; ; number++ {
		_, err := os.Stat(path(dir, number))
		if err == nil {
			return number
		}
		require.ErrorIs(t, err, os.ErrNotExist)
		require.Less(t, number, int64(1000), "there is no document")
	}
}
