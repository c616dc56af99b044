package libcluster_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

// inEveryMode runs a test in a bubble for each mode.
func inEveryMode(t *testing.T, test func(w *memory, in func(*libcluster.Config))) {
	t.Helper()
	for _, m := range allModes {
		t.Run(m.String(), func(t *testing.T) {
			inMemory(t, func(w *memory) { test(w, mode(m)) })
		})
	}
}

// membersSeen is what an application's OnMembers has been told.
type membersSeen struct {
	mu      sync.Mutex
	calls   []string
	members map[string]libcluster.Member
	running bool
	takes   time.Duration // each call
}

func (s *membersSeen) configure(c *libcluster.Config) {
	s.members = make(map[string]libcluster.Member)
	c.OnMembers = s.told
}

// told notes a call, as "+a +b -c ~d": they have joined, left, and changed.
func (s *membersSeen) told(change libcluster.MembersChange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running {
		panic("two calls at the same time")
	}
	s.running = true
	var parts []string
	for _, m := range change.Joined {
		if _, known := s.members[m.ID]; known {
			panic(m.ID + " has joined twice")
		}
		s.members[m.ID] = m
		parts = append(parts, "+"+m.ID)
	}
	for _, m := range change.Left {
		if _, known := s.members[m.ID]; !known {
			panic(m.ID + " has left and was not there")
		}
		delete(s.members, m.ID)
		parts = append(parts, "-"+m.ID)
	}
	for _, u := range change.Changed {
		if before := s.members[u.Before.ID]; fmt.Sprint(before) != fmt.Sprint(u.Before) {
			panic(fmt.Sprintf("%v was %v", u.Before, before))
		}
		if fmt.Sprint(u.Before) == fmt.Sprint(u.After) {
			panic("it has not changed: " + u.After.ID)
		}
		s.members[u.After.ID] = u.After
		parts = append(parts, "~"+u.After.ID)
	}
	s.calls = append(s.calls, strings.Join(parts, " "))
	takes := s.takes
	s.mu.Unlock()
	time.Sleep(takes)
	s.mu.Lock()
	s.running = false
}

// since returns the calls since it was called before.
func (s *membersSeen) since() []string {
	wait(time.Second)
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.calls
	s.calls = nil
	return calls
}

func (s *membersSeen) takeEach(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takes = d
}

func (s *membersSeen) of(id string) libcluster.Member {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.members[id]
}

func TestMembersThatComeChangeAndGoAreTold(t *testing.T) {
	inEveryMode(t, func(w *memory, in func(*libcluster.Config)) {
		var atA, atFront membersSeen
		b := w.join("b", in, func(c *libcluster.Config) { c.Version, c.Address = "1", "b:80" })
		a := w.join("a", in, atA.configure)
		require.Equal(w, []string{"+a +b"}, atA.since(), "all that there are")
		require.Equal(w, "1", atA.of("b").Version)
		w.join("front", in, passive, atFront.configure)
		require.Equal(w, []string{"+a +b"}, atFront.since())

		told := a.story()
		require.NoError(w, b.SetMetadata(w.Context(), map[string]string{"load": "7"}))
		require.Equal(w, []string{"~b"}, atA.since())
		require.Equal(w, []string{"~b"}, atFront.since())
		require.Equal(w, map[string]string{"load": "7"}, atFront.of("b").Metadata)
		require.Equal(w, told, a.story(), "no state has changed")

		require.NoError(w, b.SetMetadata(w.Context(), map[string]string{"load": "7"}))
		require.Empty(w, atA.since(), "nothing has changed")
		require.NoError(w, b.SetWorkers(w.Context(), 3))
		require.Equal(w, []string{"~b"}, atA.since())
		require.Equal(w, 3, atA.of("b").Workers)
		require.Equal(w, map[string]string{"load": "7"}, atA.of("b").Metadata)

		require.NoError(w, b.Leave(w.Context(), libcluster.Returning(time.Minute)))
		require.Equal(w, []string{"-b"}, atA.since(), "nobody is there, though the range is reserved")
		require.NoError(w, b.Join(w.Context()))
		require.Equal(w, []string{"+b"}, atA.since())
		require.Equal(w, map[string]string{"load": "7"}, atA.of("b").Metadata, "it is kept over memberships")
		atFront.since()
		w.Cut("b")
		wait(30 * time.Second)
		require.Equal(w, []string{"-b"}, atFront.since())
		w.Heal("b")
		wait(5 * time.Second)
		require.Equal(w, []string{"+b"}, atFront.since())
	})
}

func TestNothingIsToldTwiceOrLostWhileAHookIsSlow(t *testing.T) {
	inEveryMode(t, func(w *memory, in func(*libcluster.Config)) {
		const others, keys = 10, 300
		var slow membersSeen
		w.join("a", in, slow.configure)
		slow.since()
		slow.takeEach(10 * time.Second)
		var apps []*application
		for n := range others {
			apps = append(apps, w.join(fmt.Sprintf("m%02d", n), in))
		}
		for n, x := range apps { // key-values of 100 bytes
			metadata := map[string]string{}
			for k := range keys {
				metadata[fmt.Sprintf("key %06d", 1000*n+k)] = strings.Repeat("v", 90)
				if k%150 == 149 {
					require.NoError(w, x.SetMetadata(w.Context(), metadata))
				}
			}
		}
		gone := w.join("x", in)
		require.NoError(w, gone.Leave(w.Context()))
		wait(time.Minute)
		slow.takeEach(0)
		wait(20 * time.Second)
		require.LessOrEqual(w, len(slow.since()), 3, "changes are told together")
		arrived := 0
		for n := range others {
			arrived += len(slow.of(fmt.Sprintf("m%02d", n)).Metadata)
		}
		require.Equal(w, others*keys, arrived)
	})
}

func TestAnInstanceIsToldOfItsOwnChangesAndDoesNotWaitForItsHook(t *testing.T) {
	inEveryMode(t, func(w *memory, in func(*libcluster.Config)) {
		var atA membersSeen
		a := w.join("a", in, atA.configure)
		atA.since()
		atA.takeEach(10 * time.Second)
		began := time.Now()
		require.NoError(w, a.SetMetadata(w.Context(), map[string]string{"n": "1"}))
		synctest.Wait() // the hook has begun
		require.NoError(w, a.SetMetadata(w.Context(), map[string]string{"n": "2"}))
		require.NoError(w, a.SetWorkers(w.Context(), 3))
		require.Zero(w, time.Since(began))
		wait(9 * time.Second)
		require.Equal(w, "1", atA.of("a").Metadata["n"])
		wait(2 * time.Second)
		require.Equal(w, []string{"~a", "~a"}, atA.since())
		require.Equal(w, "2", atA.of("a").Metadata["n"])
		require.Equal(w, 3, atA.of("a").Workers)
	})
}

func TestMembersAreNotToldAnewAfterAFenceOrALostHistory(t *testing.T) {
	inEveryMode(t, func(w *memory, in func(*libcluster.Config)) {
		var atA membersSeen
		a, b := w.join("a", in, atA.configure), w.join("b", in)
		atA.since()
		w.Compact()
		require.NoError(w, b.SetMetadata(w.Context(), map[string]string{"n": "1"}))
		require.Equal(w, []string{"~b"}, atA.since())
		w.Cut("a")
		wait(30 * time.Second)
		require.False(w, a.State().Active())
		require.Empty(w, atA.since(), "an instance that is fenced knows nothing new")
		require.NoError(w, b.SetMetadata(w.Context(), map[string]string{"n": "2"}))
		w.Heal("a")
		wait(30 * time.Second)
		require.True(w, a.State().Active())
		require.Equal(w, []string{"~b"}, atA.since())
	})
}

func TestPrimaryIsKnownWithAllThatItPublishes(t *testing.T) {
	inEveryMode(t, func(w *memory, in func(*libcluster.Config)) {
		var atA, atB membersSeen
		full := func(c *libcluster.Config) {
			c.Version, c.Address, c.Metadata = "1.2", c.ID+":80", map[string]string{"zone": c.ID}
		}
		a := w.app("a", in, full, atA.configure)
		_, known := a.Primary()
		require.False(w, known, "before Join")
		a = w.join("a", in, full, atA.configure)
		b := w.join("b", in, full, atB.configure)
		wait(time.Second)
		for _, x := range []*application{a, b} {
			p, known := x.Primary()
			require.True(w, known)
			require.Equal(w, libcluster.Member{
				ID: "a", Workers: 1, Version: "1.2", Address: "a:80", Metadata: map[string]string{"zone": "a"},
			}.Record(), libcluster.Member{
				ID: p.ID, Workers: p.Workers, Version: p.Version, Address: p.Address, Metadata: p.Metadata,
			}.Record())
		}
		require.NoError(w, a.SetMetadata(w.Context(), map[string]string{"zone": "z"}))
		wait(time.Second)
		p, _ := b.Primary()
		require.Equal(w, "z", p.Metadata["zone"])
		require.Equal(w, "z", b.View().Members[0].Metadata["zone"])
		require.NoError(w, a.Leave(w.Context()))
		wait(10 * time.Second)
		p, _ = b.Primary()
		require.Equal(w, "b", p.ID)
	})
}

// Without a hook, and on an instance that is no member too.
func TestPrimaryIsKnownWithAllThatItPublishesToThoseWhoWish(t *testing.T) {
	inEveryMode(t, func(w *memory, in func(*libcluster.Config)) {
		full := func(c *libcluster.Config) {
			c.Version, c.Address, c.Metadata = "1.2", c.ID+":80", map[string]string{"zone": c.ID}
			c.WatchMembers = true
		}
		a, b, front := w.join("a", in, full), w.join("b", in, full), w.join("front", in, full, passive)
		all := []*application{a, b, front}
		known := func(address, version, zone string) {
			w.Helper()
			wait(10 * time.Second)
			for _, x := range all {
				p, ok := x.Primary()
				require.True(w, ok, "at %s", x.ID())
				require.Equal(w, []string{address, version, zone}, []string{p.Address, p.Version, p.Metadata["zone"]}, "at %s", x.ID())
			}
		}
		known("a:80", "1.2", "a")
		require.NoError(w, a.SetMetadata(w.Context(), map[string]string{"zone": "z"}))
		known("a:80", "1.2", "z")
		require.NoError(w, a.Leave(w.Context()))
		all = all[1:]
		known("b:80", "1.2", "b")
	})
}

// A field that a later release adds is forgotten in one of the places that it passes.
func TestEachFieldOfAMemberReachesAll(t *testing.T) {
	samples := map[reflect.Kind]any{reflect.String: "x", reflect.Int: 3, reflect.Map: map[string]string{"k": "v"}}
	fields := reflect.VisibleFields(reflect.TypeFor[libcluster.Member]())
	for _, field := range fields {
		if !field.IsExported() || field.Name == "ID" {
			continue
		}
		sample := reflect.ValueOf(samples[field.Type.Kind()])
		require.True(t, sample.IsValid(), "%s: a sample for its kind", field.Name)
		of := func(m libcluster.Member) any { return reflect.ValueOf(m).FieldByName(field.Name).Interface() }
		t.Run(field.Name, func(t *testing.T) {
			m := libcluster.Member{ID: "m", Workers: 1}
			reflect.ValueOf(&m).Elem().FieldByName(field.Name).Set(sample)
			read, err := libcluster.ParseMember("m", m.Record())
			require.NoError(t, err)
			require.Equal(t, sample.Interface(), of(read), "%s", m.Record())
			inEveryMode(t, func(w *memory, in func(*libcluster.Config)) {
				says := func(c *libcluster.Config) { reflect.ValueOf(c).Elem().FieldByName(field.Name).Set(sample) }
				var atB membersSeen
				a := w.join("a", in, says)
				b := w.join("b", in, atB.configure)
				wait(time.Second)
				require.Equal(w, sample.Interface(), of(atB.of("a")))
				for _, x := range []*application{a, b} {
					p, known := x.Primary()
					require.True(w, known)
					require.Equal(w, sample.Interface(), of(p.Member), "at %s", x.ID())
				}
			})
		})
	}
}

// A plan does not carry it.
func TestAnInstanceKnowsWhatItSaysOfItselfWithoutHooks(t *testing.T) {
	inEveryMode(t, func(w *memory, in func(*libcluster.Config)) {
		a := w.join("a", in, func(c *libcluster.Config) { c.Version, c.Metadata = "1.2", map[string]string{"zone": "a"} })
		p, known := a.Primary()
		require.True(w, known)
		require.Equal(w, "1.2", p.Version)
		require.Equal(w, "a", p.Metadata["zone"])
		changed := a.Changed()
		require.NoError(w, a.SetMetadata(w.Context(), map[string]string{"zone": "z"}))
		synctest.Wait()
		require.Equal(w, "z", a.Members()[0].Metadata["zone"])
		<-changed
		w.join("b", in, func(c *libcluster.Config) { c.Version = "1.3" })
		wait(time.Second)
		p, _ = a.Primary()
		require.Equal(w, "z", p.Metadata["zone"])
	})
}

func TestAHookThatHangsHoldsUpLeaveAloneAndNoOtherCallRunsBesideIt(t *testing.T) {
	inMemory(t, func(w *memory) {
		var atA membersSeen
		a := w.join("a", atA.configure)
		atA.since()
		atA.takeEach(time.Hour)
		b := w.join("b")
		synctest.Wait()
		require.Equal(w, "0/2", a.place(), "nothing waits for the hook")
		begun := time.Now()
		require.ErrorContains(w, a.Leave(w.within(3*time.Second)), "OnMembers or Superseded has not returned")
		require.Equal(w, 3*time.Second, time.Since(begun))
		require.Equal(w, "0/1", b.place(), "its record has gone")
		require.NoError(w, a.Join(w.Context()))
		atA.mu.Lock()
		clear(atA.members) // for a new membership all is new
		atA.mu.Unlock()
		atA.takeEach(0)
		require.Equal(w, []string{"+b"}, atA.since())
		wait(time.Hour)
		require.Equal(w, []string{"+a +b"}, atA.since(), "when the call before has returned")
	})
}

func TestMetadataIsCheckedAndWhatIsRefusedIsTakenBack(t *testing.T) {
	inMemory(t, func(w *memory) {
		a := w.join("a", func(c *libcluster.Config) { c.Metadata = map[string]string{"k": "v"} })
		var wrong *libcluster.ConfigError
		require.ErrorAs(w, a.SetMetadata(w.Context(), map[string]string{"k": strings.Repeat("v", 64<<10)}), &wrong)
		require.Equal(w, "Metadata", wrong.Field)
		require.ErrorAs(w, a.SetMetadata(w.Context(), map[string]string{"k": "\xff"}), &wrong)
		require.Equal(w, "v", w.Members(cluster)[0].Metadata["k"])
		require.ErrorIs(w, w.join("p", passive).SetMetadata(w.Context(), nil), libcluster.ErrPassive)

		metadata := map[string]string{"k": "w"}
		w.Cut("a")
		require.ErrorIs(w, a.SetMetadata(w.within(time.Second), metadata), context.DeadlineExceeded)
		metadata["k"] = "another's by now"
		w.Heal("a")
		wait(5 * time.Second)
		require.Equal(w, map[string]string{"k": "w"}, w.Members(cluster)[0].Metadata, "it is published when the registry answers")
		require.NoError(w, a.Leave(w.Context()))
		require.NoError(w, a.SetMetadata(w.Context(), nil))
		require.NoError(w, a.Join(w.Context()))
		require.Empty(w, w.Members(cluster)[0].Metadata)

		full := errors.New("the registry is full")
		w.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			if call.Op == libclustertest.OpUpdate {
				return libcluster.Permanent(full)
			}
			return call.Send(ctx)
		})
		require.ErrorIs(w, a.SetMetadata(w.Context(), map[string]string{"k": "x"}), full)
		w.Intercept(nil)
		require.NoError(w, a.SetWorkers(w.Context(), 2))
		require.Empty(w, w.Members(cluster)[0].Metadata, "what was refused is not published later")
	})
}

func TestMembersCostNothingWhereNobodyAsks(t *testing.T) {
	for _, m := range allModes {
		t.Run(m.String(), func(t *testing.T) {
			silent := deliveries(t, mode(m))
			asked := deliveries(t, mode(m), func(c *libcluster.Config) { c.OnMembers = func(libcluster.MembersChange) {} })
			if m == libcluster.ModeDirect {
				require.Equal(t, silent, asked, "all are told in any case")
				return
			}
			require.LessOrEqual(t, silent, 10, "the coordinator alone is told")
			require.GreaterOrEqual(t, asked, 60)
		})
	}
}

// deliveries is how many changes six members are told of when one of them changes ten times.
func deliveries(t *testing.T, change ...func(*libcluster.Config)) (n int) {
	inMemory(t, func(w *memory) {
		b := w.join("b", change...)
		for n := range 5 {
			w.join(fmt.Sprint("c", n), change...)
		}
		wait(20 * time.Second)
		before := w.Counts().Deliveries
		for n := range 10 {
			require.NoError(w, b.SetMetadata(w.Context(), map[string]string{"n": fmt.Sprint(n)}))
		}
		wait(time.Second)
		n = w.Counts().Deliveries - before
	})
	return n
}

func TestAMembershipThatIsLeftBeforeItsTurnLetsNoOtherCallBackBesideTheFirst(t *testing.T) {
	inMemory(t, func(w *memory) {
		var atA membersSeen
		a := w.join("a", atA.configure)
		atA.since()
		atA.takeEach(time.Hour)
		w.join("b")
		require.Error(w, a.Leave(w.within(2*time.Second)))
		for range 2 {
			require.NoError(w, a.Join(w.Context()))
			synctest.Wait()
			require.NoError(w, a.Leave(w.Context()))
		}
		require.NoError(w, a.Join(w.Context()))
		wait(time.Minute) // two calls at a time panic
		atA.mu.Lock()
		clear(atA.members)
		atA.mu.Unlock()
		atA.takeEach(0)
		wait(time.Hour)
		require.Contains(w, atA.since(), "+a +b")
	})
}

// It is not known what is published when something is refused.
func TestARefusalAfterALostAnswerTakesBackToWhatWasKnown(t *testing.T) {
	inEveryMode(t, func(w *memory, in func(*libcluster.Config)) {
		a, refusing := w.join("a", in, workers(2)), false
		w.Intercept(func(ctx context.Context, call libclustertest.Call) error {
			switch {
			case call.Op != libclustertest.OpUpdate:
				return call.Send(ctx)
			case refusing:
				return libcluster.Permanent(errors.New("full"))
			}
			refusing = true
			<-ctx.Done()
			return context.Cause(ctx)
		})
		require.Error(w, a.SetMetadata(w.within(time.Second), map[string]string{"k": "v"}))
		wait(10 * time.Second)
		w.Intercept(nil)
		require.NoError(w, a.SetWorkers(w.Context(), 3))
		m := w.Members(cluster)[0]
		require.Equal(w, 3, m.Workers)
		require.Empty(w, m.Metadata)
	})
}

func TestMetadataIsNotRefusedForAnotherCallsCount(t *testing.T) {
	inMemory(t, func(w *memory) {
		a := w.app("a", func(c *libcluster.Config) { c.Registry = libcluster.Static(0, 2) })
		require.NoError(w, a.Join(w.Context()))
		for n := range 200 {
			var both sync.WaitGroup
			both.Go(func() { require.Error(w, a.SetWorkers(w.Context(), 3)) })
			both.Go(func() { require.NoError(w, a.SetMetadata(w.Context(), map[string]string{"n": fmt.Sprint(n)})) })
			both.Wait()
			synctest.Wait()
			require.Equal(w, fmt.Sprint(n), a.Members()[0].Metadata["n"])
			require.Equal(w, 1, a.State().Workers)
		}
		require.NoError(w, a.Leave(w.Context()))
	})
}
