package simulation

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/simulator"
	"github.com/libcluster/libcluster/libclustertest"
)

// TestStoriesGoAsTold tells each file of testdata anew. A file begins with what it
// shows, behind #. Then come commands, each with what is to be seen after it, down
// to an empty line:
//
//	cut b
//	----
//
//	tick 7s
//	----
//	b is told -1+1 of 2
//
// What is to be seen is what each app was told since, and which of its calls have
// returned. The commands are the cases of story.do; "quietly" after one leaves out
// what happens in an order that is left to chance, and "+2s" has the command take
// that long, since waits between attempts are left to chance too. All promises are
// checked after each.
func TestStoriesGoAsTold(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 12)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			told, err := os.ReadFile(file)
			require.NoError(t, err)
			require.True(t, strings.HasPrefix(string(told), "# "), "%s does not say what it shows", file)
			got := tell(t, string(told))
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
				return
			}
			require.Equal(t, string(told), got)
		})
	}
}

// tell has a story happen, and returns it with what has been seen.
func tell(t *testing.T, told string) string {
	t.Helper()
	var b strings.Builder
	synctest.Test(t, func(t *testing.T) {
		s := story{t: t, world: newWorld(1)}
		expected := false
		for line := range strings.Lines(told) {
			line = strings.TrimSpace(line)
			switch {
			case line == "" && expected:
				expected = false
				b.WriteString("\n")
			case expected:
			case line == "" || strings.HasPrefix(line, "#"):
				b.WriteString(line + "\n")
			case line == "----":
				expected = true
				fmt.Fprintf(&b, "----\n%s", strings.Join(s.seen(), ""))
			default:
				s.do(strings.Fields(line))
				b.WriteString(line + "\n")
			}
		}
		require.Empty(t, s.Broken(), "a promise: %s", s.Report())
		s.settle()
		s.end()
		require.Empty(t, s.Broken(), "a promise: %s", s.Report())
	})
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// story is one that is being told.
type story struct {
	*world
	t     *testing.T
	shown []string // what the command itself has to say
	quiet bool     // leave out what the apps have to say
}

// placeOf says what a state says.
func placeOf(s libcluster.State) string {
	return fmt.Sprintf("%d+%d of %d", s.Index, s.Workers, s.Total)
}

// seen lets all come to rest, and tells what has happened. The order is that of the
// apps: what happens at one instant has none. Nor is there one between the return of
// SetWorkers and the callback for it, so that comes first.
func (s *story) seen() []string {
	s.rest(0)
	seen := s.shown
	s.shown = nil
	s.Locked(func() {
		for _, a := range s.byName() {
			if s.quiet && len(a.news) > 0 {
				a.news = []string{"is told something"}
			}
			slices.SortStableFunc(a.news, func(x, y string) int {
				switch {
				case strings.HasPrefix(x, "SetWorkers") == strings.HasPrefix(y, "SetWorkers"):
					return 0
				case strings.HasPrefix(x, "SetWorkers"):
					return -1
				}
				return 1
			})
			for _, news := range a.news {
				seen = append(seen, fmt.Sprintf("%s %s\n", a, strings.ReplaceAll(news, "\n", "; ")))
			}
			a.news = nil
		}
	})
	return seen
}

func (s *story) byName() []*app {
	return slices.SortedFunc(slices.Values(s.apps), func(a, b *app) int { return strings.Compare(a.Name, b.Name) })
}

func (s *story) app(name string) *app {
	i := slices.IndexFunc(s.apps, func(a *app) bool { return a.Name == name })
	require.GreaterOrEqual(s.t, i, 0, "no app %s", name)
	return s.apps[i]
}

func (s *story) duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	require.NoError(s.t, err)
	return d
}

// do obeys a command. Those with an app's name are about that app, those with an ID
// about its record: they are the same unless join says otherwise.
func (s *story) do(words []string) {
	arg := func(n int) string {
		require.Greater(s.t, len(words), n, "%v needs more", words)
		return words[n]
	}
	options := map[string]string{}
	for _, word := range words[1:] {
		k, v, _ := strings.Cut(word, "=")
		options[k] = v
	}
	_, s.quiet = options["quietly"]
	if words[0] == "tick" {
		s.rest(s.duration(arg(1)))
		return
	}
	if last := words[len(words)-1]; last[0] == '+' {
		defer s.rest(s.duration(last[1:]))
	}
	s.Locked(func() {
		s.note()
		defer s.note()
		switch words[0] {
		case "show":
			s.show()
		case "join":
			s.join(arg(1), options)
		case "leave":
			s.leave(s.app(arg(1)), options)
		case "workers":
			n, err := strconv.Atoi(arg(2))
			require.NoError(s.t, err)
			s.app(arg(1)).setWorkers(n, s.patience(options))
		case "slow":
			d := s.duration(arg(2))
			s.app(arg(1)).Slow = func() { time.Sleep(d) }
		case "crash":
			s.app(arg(1)).Crash()
		case "weather":
			s.app(arg(1)).Sky = s.weather(options)
		default:
			s.doRegistry(words[0], words[1:])
		}
	})
}

func (s *story) doRegistry(command string, args []string) {
	switch command {
	case "cut":
		s.Cut(args[0])
	case "heal":
		s.Heal(args[0])
	case "outage":
		s.CutAll()
	case "healed":
		s.HealAll()
	case "expire", "steal", "delete", "put":
		s.record(command, args)
	case "compact":
		s.Compact()
	case "backup":
		s.backups = append(s.backups, backup{s.Snapshot(), s.past.era(), s.Revision(cluster)})
	case "restore":
		s.restore(s.backups[len(s.backups)-1])
	case "wipe":
		s.restore(backup{})
	default:
		require.Fail(s.t, "unknown command", command)
	}
}

func (s *story) record(command string, args []string) {
	id, done := args[0], true
	switch command {
	case "expire":
		done = s.Expire(cluster, id)
	case "steal":
		done = s.Steal(cluster, id)
	case "delete":
		done = s.Delete(cluster, id)
	case "put":
		s.Put(cluster, id, []byte(strings.Join(args[1:], " ")))
	}
	require.True(s.t, done, "no record %s", id)
	s.owners[id] = nil
	s.tampered(id, nil)
}

// show tells every app's state, phase and trouble, and what is recorded.
func (s *story) show() {
	for _, a := range s.byName() {
		line := fmt.Sprintf("%s: %s %s", a, a.Phase(), placeOf(a.State()))
		if err := a.Err(); err != nil {
			line += fmt.Sprintf(" (%v)", err)
		}
		s.shown = append(s.shown, line+"\n")
	}
	line := "registry:"
	for _, m := range s.Members(cluster) {
		line += fmt.Sprintf(" %s=%d", m.ID, m.Workers)
	}
	s.shown = append(s.shown, line+"\n")
}

func (s *story) patience(options map[string]string) time.Duration {
	if within, ok := options["within"]; ok {
		return s.duration(within)
	}
	return time.Minute
}

func (s *story) join(name string, options map[string]string) {
	patience := s.patience(options)
	if i := slices.IndexFunc(s.apps, func(a *app) bool { return a.Name == name }); i >= 0 {
		s.apps[i].join(patience)
		return
	}
	cfg := libcluster.Config{ID: name, Workers: 1, TTL: libcluster.DefaultTTL}
	for option, value := range options {
		switch option {
		case "id":
			cfg.ID = value
		case "workers":
			n, err := strconv.Atoi(value)
			require.NoError(s.t, err)
			cfg.Workers = n
		case "keep":
			cfg.Outage = libcluster.KeepOnOutage
		case "passive":
			cfg.Passive = true
		}
	}
	s.add(name, cfg).join(patience)
}

func (s *story) leave(a *app, options map[string]string) {
	patience := s.patience(options)
	if returning, ok := options["returning"]; ok {
		a.leaveReturning(s.duration(returning), patience)
	} else {
		a.leave(patience)
	}
}

// weather has all calls of an app meet one fault.
func (s *story) weather(options map[string]string) (sky simulator.Weather) {
	for option, value := range options {
		switch option {
		case "each-way":
			sky.Slowest, sky.Steady = s.duration(value), true
		case "only":
			sky.Only = libclustertest.Op(value)
		case "answers-lost":
			sky.LoseAnswer = 100
		case "requests-lost":
			sky.LoseRequest = 100
		case "errors":
			sky.Fail = 100
		}
	}
	return sky
}
