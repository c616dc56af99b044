package fencing_test

import (
	"database/sql"
	"fmt"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// statements are those in the package's documentation, by their first word.
func statements(t *testing.T) (update, insert, take, takePart string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../doc.go", nil, parser.ParseComments|parser.PackageClauseOnly)
	require.NoError(t, err)
	_, section, found := strings.Cut(file.Doc.Text(), "# Fencing in a database\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n# ")
	var all []string
	code := false
	for line := range strings.Lines(section) {
		switch is := strings.HasPrefix(line, "\t"); {
		case is && !code:
			all = append(all, line)
			code = true
		case is:
			all[len(all)-1] += line
		default:
			code = false
		}
	}
	require.Len(t, all, 4, "%q", all)
	return all[0], all[1], all[2], all[3]
}

// bank is a database of accounts.
type bank struct {
	*sql.DB
	t                              *testing.T
	update, insert, take, takePart string
}

func newBank(t *testing.T) *bank {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "bank")+
		"?_pragma=busy_timeout(30000)&_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)")
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	b := &bank{DB: db, t: t}
	b.update, b.insert, b.take, b.takePart = statements(t)
	_, err = b.Exec(`
		CREATE TABLE account (id INTEGER PRIMARY KEY, part INTEGER NOT NULL DEFAULT 0, balance INTEGER NOT NULL DEFAULT 0, fence BIGINT NOT NULL DEFAULT 0);
		CREATE TABLE history (id INTEGER NOT NULL, was BIGINT NOT NULL, fence BIGINT NOT NULL);
		CREATE TRIGGER noted AFTER UPDATE ON account BEGIN
			INSERT INTO history VALUES (old.id, old.fence, new.fence);
		END`)
	require.NoError(t, err)
	return b
}

// rows runs a statement and returns how many rows it has affected. Values are those
// of the parameters that it has.
func (b *bank) rows(statement string, values map[string]any) (int64, error) {
	var named []any
	for name, value := range values {
		if strings.Contains(statement, "$"+name) {
			named = append(named, sql.Named(name, value))
		}
	}
	result, err := b.Exec(statement, named...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// writes reports whether a write has had an effect.
func (b *bank) writes(statement string, id, balance int, token int64) bool {
	b.t.Helper()
	n, err := b.rows(statement, map[string]any{"id": id, "balance": balance, "token": token})
	require.NoError(b.t, err)
	return n == 1
}

func (b *bank) holds(id int) string {
	b.t.Helper()
	var balance int
	var fence int64
	require.NoError(b.t, b.QueryRow("SELECT balance, fence FROM account WHERE id = ?", id).Scan(&balance, &fence))
	return fmt.Sprintf("%d by %d", balance, fence)
}

func TestAnOldOwnersUpdateIsRefused(t *testing.T) {
	b := newBank(t)
	_, err := b.Exec("INSERT INTO account (id) VALUES (7)")
	require.NoError(t, err)
	require.True(t, b.writes(b.update, 7, 10, 1))
	require.True(t, b.writes(b.update, 7, 11, 1), "the same owner again")
	require.True(t, b.writes(b.update, 7, 20, 2), "the next one")
	require.False(t, b.writes(b.update, 7, 12, 1), "the one before, late")
	require.True(t, b.writes(b.update, 7, 21, 2))
	require.Equal(t, "21 by 2", b.holds(7))
}

func TestAnOldOwnersInsertIsRefused(t *testing.T) {
	b := newBank(t)
	require.True(t, b.writes(b.insert, 7, 20, 2), "a new row")
	require.False(t, b.writes(b.insert, 7, 10, 1), "the one before, late")
	require.True(t, b.writes(b.insert, 7, 21, 2), "the same owner again")
	require.True(t, b.writes(b.insert, 7, 30, 3), "the next one")
	require.False(t, b.writes(b.update, 7, 22, 2), "both ways to write have the same fence")
	require.Equal(t, "30 by 3", b.holds(7))

	// What the documentation warns of.
	_, err := b.Exec("DELETE FROM account WHERE id = 7")
	require.NoError(t, err)
	require.True(t, b.writes(b.insert, 7, 10, 1), "a row that was deleted has taken its fence along")
}

func TestRowsThatWereTakenAreReadAsTheyStay(t *testing.T) {
	b := newBank(t)
	for id := range 12 {
		require.True(t, b.writes(b.insert, id, 1, 1))
	}
	taken, err := b.rows(b.take, map[string]any{"token": 2, "index": 1, "workers": 2, "total": 4})
	require.NoError(t, err)
	require.EqualValues(t, 6, taken)
	for id := range 12 {
		ours := id%4 == 1 || id%4 == 2
		require.Equal(t, !ours, b.writes(b.update, id, 9, 1), "the old owner's late write to %d", id)
		if ours {
			require.Equal(t, "1 by 2", b.holds(id))
			require.True(t, b.writes(b.update, id, 2, 2))
		}
	}
	taken, err = b.rows(b.take, map[string]any{"token": 1, "index": 0, "workers": 4, "total": 4})
	require.NoError(t, err)
	require.Zero(t, taken, "nor can it take them back")
}

func TestRowsOfAPartitionThatWereTakenAreReadAsTheyStay(t *testing.T) {
	b := newBank(t)
	for id := range 12 {
		require.True(t, b.writes(b.insert, id, 1, 5))
	}
	_, err := b.Exec("UPDATE account SET part = id % 4")
	require.NoError(t, err)
	for _, c := range []struct{ token, rows int64 }{{6, 3}, {6, 0}, {5, 0}} {
		taken, err := b.rows(b.takePart, map[string]any{"token": c.token, "part": 2})
		require.NoError(t, err)
		require.Equal(t, c.rows, taken)
	}
	for id := range 12 {
		require.Equal(t, id%4 != 2, b.writes(b.update, id, 9, 5), "the old owner's late write to %d", id)
	}
}

// Many write at once, with tokens old and new, in both ways.
func TestFencesOnlyGrow(t *testing.T) {
	const writers, writes, accounts, tokens = 8, 40, 3, 100
	b := newBank(t)
	errs := make(chan error, writers)
	best := make([][accounts]int64, writers)
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for range writes {
				id, token := rand.IntN(accounts), 1+rand.Int64N(tokens)
				statement := b.update
				if rand.IntN(2) == 0 {
					statement = b.insert
				}
				n, err := b.rows(statement, map[string]any{"id": id, "balance": token, "token": token})
				if err != nil {
					errs <- err
					return
				}
				if n == 1 {
					best[w][id] = max(best[w][id], token)
				}
			}
		})
	}
	writing.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	var shrunk, updates int
	require.NoError(t, b.QueryRow("SELECT count(*) FILTER (WHERE fence < was), count(*) FROM history").Scan(&shrunk, &updates))
	require.Zero(t, shrunk)
	require.Positive(t, updates)
	for id := range accounts {
		highest := int64(0)
		for w := range writers {
			highest = max(highest, best[w][id])
		}
		require.Equal(t, fmt.Sprintf("%d by %d", highest, highest), b.holds(id))
	}
}
