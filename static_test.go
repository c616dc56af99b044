package libcluster_test

import (
	"context"
	"maps"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/between"
)

// told returns what i has been told when nothing is left to be done. In a
// synctest bubble that can be known: nobody need wait for a call that does not
// come.
func told(i *instance) []libcluster.State {
	synctest.Wait()
	return i.states()
}

func staticConfig(index, workers, total int) libcluster.Config {
	return libcluster.Config{Key: "k", ID: "a", Workers: workers, Registry: libcluster.Static(index, total)}
}

func TestStaticJoinCallsBackOnceBeforeItReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := prepare(t, staticConfig(2, 3, 7))
		require.Equal(t, libcluster.State{Index: -1, Workers: 3}, i.State())
		require.ErrorIs(t, i.Err(), libcluster.ErrLeft)
		require.Equal(t, libcluster.PhaseLeft, i.Phase())
		require.Empty(t, i.Members())

		require.NoError(t, i.Join(t.Context()))
		first := []libcluster.State{{Index: 2, Workers: 3, Total: 7, Generation: 1}}
		require.Equal(t, first, i.states(), "before Join returned")
		require.Equal(t, first, told(i), "ever since")
		require.Equal(t, first[0], i.State())
		require.NoError(t, i.Err())
		require.Equal(t, libcluster.PhaseActive, i.Phase())
	})
}

func TestStaticPlaceLastsWithoutBeingRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := staticConfig(0, 1, 2)
		cfg.TTL = time.Second
		i := start(t, cfg)
		<-time.After(1000 * time.Hour) // by the bubble's clock
		require.Len(t, told(i), 1)
		require.True(t, i.State().Active())
	})
}

func TestStaticLeaveCallsBackMinusOneAndTheTotalOfTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := start(t, staticConfig(2, 3, 7))
		require.NoError(t, i.Leave(t.Context()))
		states := told(i)
		require.Len(t, states, 2)
		require.Equal(t, libcluster.State{Index: -1, Workers: 3, Total: 4, Generation: 1}, states[1])
		require.Equal(t, states[1], i.State())
		require.ErrorIs(t, i.Err(), libcluster.ErrLeft)
		require.Equal(t, libcluster.PhaseLeft, i.Phase())

		require.NoError(t, i.Leave(t.Context()), "leaving twice")
		require.Len(t, told(i), 2)
	})
}

func TestStaticClusterCanBeJoinedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := start(t, staticConfig(2, 3, 7))
		require.NoError(t, i.Leave(t.Context(), libcluster.Returning(time.Minute)), "a static place is always kept")
		require.NoError(t, i.Join(t.Context()))
		states := told(i)
		require.Len(t, states, 3)
		require.Equal(t, states[0], states[2])
		require.Equal(t, states[2], i.State())
	})
}

func TestStaticIndexZeroIsPrimary(t *testing.T) {
	for index, primary := range map[int]bool{0: true, 1: false} {
		i := start(t, staticConfig(index, 1, 2))
		require.Equal(t, primary, i.State().Primary())
		i.leave()
		require.False(t, i.State().Primary(), "after leaving")
	}
}

func TestStaticClusterKnowsOnlyThisInstance(t *testing.T) {
	cfg := staticConfig(2, 3, 7)
	cfg.Address, cfg.Version = "10.0.0.1:80", "v1"
	i := start(t, cfg)
	require.Equal(t, []libcluster.Place{{
		Member: libcluster.Member{ID: "a", Workers: 3, Address: "10.0.0.1:80", Version: "v1"},
		Index:  2,
	}}, i.Members())
}

func TestStaticPlaceOutsideTheTotalIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		index, workers, total int
		says                  string
	}{
		"negative index":             {-1, 1, 3, "index -1: must be 0 to 2"},
		"index is the total":         {3, 1, 3, "index 3: must be 0 to 2"},
		"range past the total":       {2, 2, 3, "range [2,4) of 2 workers runs past the total 3"},
		"more workers than in all":   {0, 4, 3, "range [0,4) of 4 workers runs past the total 3"},
		"most workers, at the end":   {2147483646, 2147483647, 2147483647, "range [2147483646,4294967293) of 2147483647 workers"},
		"nobody":                     {0, 1, 0, "total 0: must be 1 to 2147483647"},
		"negative total":             {0, 1, -3, "total -3: must be 1 to 2147483647"},
		"more than a cluster may be": {0, 1, libcluster.MaxWorkers + 1, "total 2147483648: must be 1 to 2147483647"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := libcluster.New(staticConfig(c.index, c.workers, c.total))
			var configError *libcluster.ConfigError
			require.ErrorAs(t, err, &configError)
			require.Equal(t, "Registry", configError.Field)
			require.ErrorContains(t, err, "Static: "+c.says)
		})
	}
}

func TestStaticPlaceAtTheEndOfTheTotalIsAccepted(t *testing.T) {
	for _, c := range []struct{ index, workers, total int }{
		{0, 1, 1},
		{2, 1, 3},
		{1, 2, 3},
		{0, libcluster.MaxWorkers, libcluster.MaxWorkers},
		{libcluster.MaxWorkers - 1, 1, libcluster.MaxWorkers},
	} {
		i := start(t, staticConfig(c.index, c.workers, c.total))
		require.Equal(t, libcluster.State{Index: c.index, Workers: c.workers, Total: c.total, Generation: 1}, i.State())
	}
}

func TestStaticWorkersThatFitAreTakenAndToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := start(t, staticConfig(2, 3, 7))
		require.NoError(t, i.SetWorkers(t.Context(), 5))
		states := told(i)
		require.Len(t, states, 2)
		require.Equal(t, libcluster.State{Index: 2, Workers: 5, Total: 7, Generation: 2}, states[1])
		require.Equal(t, states[1], i.State())
		require.Equal(t, 5, i.Members()[0].Workers)

		require.NoError(t, i.SetWorkers(t.Context(), 5))
		require.Len(t, told(i), 2, "told of a count that it had already")

		i.leave()
		require.Equal(t, 2, i.State().Total, "7 but for the 5 of its own")
	})
}

func TestStaticWorkersThatDoNotFitAreRefusedAndTheOldCountStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := start(t, staticConfig(2, 3, 7))
		before := i.State()
		err := i.SetWorkers(t.Context(), 6)
		require.ErrorContains(t, err, "range [2,8) of 6 workers runs past the total 7")
		require.NotContains(t, err.Error(), "again", "no retry can mend it")
		require.Len(t, told(i), 1)
		require.Equal(t, before, i.State())
		require.Equal(t, 3, i.Members()[0].Workers)

		i.leave()
		require.NoError(t, i.Join(t.Context()), "the refused count was kept")
		require.Equal(t, before, i.State())
	})
}

// pausedRegistry holds back all changes but the first until it is resumed, and
// has something happen before each update.
type pausedRegistry struct {
	between.Registry
	resumed      chan struct{}
	beforeUpdate func(libcluster.Member)
}

type pausedSession struct {
	libcluster.Session
	registry *pausedRegistry
	first    atomic.Bool
}

func newPausedRegistry(on libcluster.Registry) *pausedRegistry {
	p := &pausedRegistry{resumed: make(chan struct{})}
	p.Registry = between.Registry{Registry: on, Joining: func(ctx context.Context, m libcluster.Member, below libcluster.Membership,
	) (libcluster.Session, time.Duration, error) {
		session, ttl, err := below.Join(ctx, m)
		return &pausedSession{Session: session, registry: p}, ttl, err
	}}
	return p
}

func (p *pausedSession) Next(ctx context.Context) (libcluster.Change, error) {
	if p.first.Swap(true) {
		select {
		case <-p.registry.resumed:
		case <-ctx.Done():
		}
	}
	return p.Session.Next(ctx)
}

func (p *pausedSession) Update(ctx context.Context, m libcluster.Member) error {
	p.registry.beforeUpdate(m)
	return p.Session.Update(ctx, m)
}

// The change to 2 workers arrives while 9 are asked for and not yet refused.
func TestStaticWorkersThatAreRefusedAreNeverTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := newPausedRegistry(libcluster.Static(0, 3))
		registry.beforeUpdate = func(m libcluster.Member) {
			if m.Workers == 9 {
				close(registry.resumed)
				synctest.Wait()
			}
		}
		i := start(t, libcluster.Config{Key: "k", Registry: registry})
		require.NoError(t, i.SetWorkers(t.Context(), 2))
		require.ErrorContains(t, i.SetWorkers(t.Context(), 9), "runs past the total 3")
		states := told(i)
		require.Len(t, states, 2)
		require.Equal(t, libcluster.State{Index: 0, Workers: 2, Total: 3, Generation: 2}, states[1])
		require.Equal(t, states[1], i.State())
	})
}

// The second count is set while the first one is being refused, so that "what
// it was before" is for the second one the first one, which will not do either.
func TestStaticWorkersThatAreRefusedTogetherAreBothTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var i *instance
		second := make(chan error, 1)
		once := sync.OnceFunc(func() {
			go func() { second <- i.SetWorkers(t.Context(), 10) }()
			synctest.Wait()
		})
		registry := newPausedRegistry(libcluster.Static(0, 3))
		registry.beforeUpdate = func(libcluster.Member) { once() }
		i = start(t, libcluster.Config{Key: "k", Registry: registry})
		require.Error(t, i.SetWorkers(t.Context(), 9))
		require.Error(t, <-second)
		i.leave()
		require.NoError(t, i.Join(t.Context()), "a refused count was kept")
		require.Equal(t, 1, i.State().Workers)
	})
}

func TestStaticTotalOfAllThatMayBeLeavesRoomForMoreWorkers(t *testing.T) {
	i := start(t, staticConfig(0, 1, libcluster.MaxWorkers))
	require.NoError(t, i.SetWorkers(t.Context(), libcluster.MaxWorkers))
}

func TestStaticWorkersSetBeforeJoiningCount(t *testing.T) {
	i := prepare(t, staticConfig(2, 3, 7))
	require.NoError(t, i.SetWorkers(t.Context(), 5))
	require.NoError(t, i.Join(t.Context()))
	require.Equal(t, libcluster.State{Index: 2, Workers: 5, Total: 7, Generation: 1}, i.State())
	i.leave()

	require.NoError(t, i.SetWorkers(t.Context(), 6))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.ErrorContains(t, i.Join(ctx), "runs past the total 7")
	require.NoError(t, ctx.Err(), "it tried again what can't be mended")
	require.False(t, i.State().Active())
}

func TestStaticPassiveInstanceSeesTheTotalAndHasNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := staticConfig(2, 3, 7)
		cfg.Passive = true
		i := start(t, cfg)
		states := told(i)
		require.Len(t, states, 1)
		require.Equal(t, -1, states[0].Index)
		require.Equal(t, 7, states[0].Total)
		require.Equal(t, states[0], i.State())
		require.NoError(t, i.Err())
		require.Empty(t, i.Members())
		require.ErrorContains(t, i.SetWorkers(t.Context(), 1), "passive")

		i.leave()
		require.Equal(t, -1, i.State().Index)
		require.Equal(t, 7, i.State().Total, "it never counted")
	})
}

// schedulerVariables are all that StaticFromEnv looks at.
var schedulerVariables = []string{
	"LIBCLUSTER_INDEX", "LIBCLUSTER_TOTAL",
	"JOB_COMPLETION_INDEX",
	"AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE",
	"CLOUD_RUN_TASK_INDEX", "CLOUD_RUN_TASK_COUNT",
	"SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_MAX", "SLURM_ARRAY_TASK_STEP", "SLURM_ARRAY_TASK_COUNT",
	"SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_ID",
}

type env = map[string]string

// setEnv sets these variables for the test, and none of the others.
func setEnv(t *testing.T, set env) {
	t.Helper()
	for _, name := range schedulerVariables {
		t.Setenv(name, "") // puts back, when the test ends, what was there
		require.NoError(t, os.Unsetenv(name))
	}
	for name, value := range set {
		require.Contains(t, schedulerVariables, name)
		t.Setenv(name, value)
	}
}

// slurmArray is what Slurm sets for one task of a job array.
func slurmArray(id, first, last, step, count string) env {
	return env{
		"SLURM_ARRAY_TASK_ID": id, "SLURM_ARRAY_TASK_MIN": first, "SLURM_ARRAY_TASK_MAX": last,
		"SLURM_ARRAY_TASK_STEP": step, "SLURM_ARRAY_TASK_COUNT": count,
	}
}

func with(set, more env) env {
	maps.Copy(set, more)
	return set
}

func TestStaticPlaceComesFromTheSchedulersEnvironment(t *testing.T) {
	everything := env{}
	for _, name := range schedulerVariables {
		everything[name] = "5"
	}
	everything["LIBCLUSTER_INDEX"], everything["LIBCLUSTER_TOTAL"] = "2", "9"

	for name, c := range map[string]struct {
		env            env
		tasks, workers int
		index, total   int
	}{
		// Plain variables count workers.
		"plain":            {env: env{"LIBCLUSTER_INDEX": "2", "LIBCLUSTER_TOTAL": "7"}, workers: 3, index: 2, total: 7},
		"plain with space": {env: env{"LIBCLUSTER_INDEX": " 2 ", "LIBCLUSTER_TOTAL": "7\n"}, workers: 3, index: 2, total: 7},
		"plain first":      {env: everything, tasks: 100, workers: 3, index: 2, total: 9},

		// Schedulers count tasks, of so many workers each.
		"Kubernetes, completions given": {env: env{"JOB_COMPLETION_INDEX": "2"}, tasks: 5, workers: 4, index: 8, total: 20},
		"Kubernetes, completions set": {
			env: env{"JOB_COMPLETION_INDEX": "2", "LIBCLUSTER_TOTAL": "5"}, workers: 4, index: 8, total: 20,
		},
		"Kubernetes, set goes before given": {
			env: env{"JOB_COMPLETION_INDEX": "2", "LIBCLUSTER_TOTAL": "5"}, tasks: 3, workers: 4, index: 8, total: 20,
		},
		"AWS Batch": {
			env: env{"AWS_BATCH_JOB_ARRAY_INDEX": "1", "AWS_BATCH_JOB_ARRAY_SIZE": "3"}, workers: 2, index: 2, total: 6,
		},
		"Cloud Run": {
			env: env{"CLOUD_RUN_TASK_INDEX": "9", "CLOUD_RUN_TASK_COUNT": "10"}, workers: 1, index: 9, total: 10,
		},
		"a Slurm batch script with one task": {env: env{"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, workers: 3, index: 0, total: 3},
		"Slurm tasks":                        {env: env{"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_STEP_ID": "0"}, workers: 3, index: 0, total: 12},
		"tasks are for Kubernetes alone": {
			env: env{"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_STEP_ID": "0"}, tasks: 99, workers: 1, index: 0, total: 4,
		},

		"Slurm array from 0":    {env: slurmArray("2", "0", "3", "1", "4"), workers: 1, index: 2, total: 4},
		"Slurm array from 1":    {env: slurmArray("4", "1", "4", "1", "4"), workers: 2, index: 6, total: 8},
		"Slurm array with step": {env: slurmArray("8", "0", "12", "4", "4"), workers: 2, index: 4, total: 8},
		"Slurm array of one":    {env: slurmArray("7", "7", "7", "1", "1"), workers: 1, index: 0, total: 1},
		"Slurm array, first and count only": {
			env:     env{"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "4"},
			workers: 1, index: 2, total: 4,
		},
		"Slurm array goes before its one task": {
			env:     with(slurmArray("3", "1", "4", "1", "4"), env{"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}),
			workers: 1, index: 2, total: 4,
		},
		"empty is not set": {
			env:     env{"LIBCLUSTER_INDEX": "", "JOB_COMPLETION_INDEX": "", "SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_STEP_ID": "3"},
			workers: 1, index: 1, total: 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			setEnv(t, c.env)
			registry, err := libcluster.StaticFromEnv(c.tasks)
			require.NoError(t, err)
			i := start(t, libcluster.Config{Key: "k", Workers: c.workers, Registry: registry})
			want := libcluster.State{Index: c.index, Workers: c.workers, Total: c.total, Generation: 1}
			require.Equal(t, want, i.State())
		})
	}
}

func TestTasksOfASchedulerTileTheTotal(t *testing.T) {
	const workers, tasks = 3, 4
	for task, id := range []string{"10", "15", "20", "25"} {
		setEnv(t, slurmArray(id, "10", "25", "5", "4"))
		registry, err := libcluster.StaticFromEnv(0)
		require.NoError(t, err)
		i := start(t, libcluster.Config{Key: "k", Workers: workers, Registry: registry})
		want := libcluster.State{Index: task * workers, Workers: workers, Total: tasks * workers, Generation: 1}
		require.Equal(t, want, i.State())
	}
}

// The places of tasks follow from all of them having as many workers.
func TestOneTaskOfASchedulerCannotChangeItsWorkers(t *testing.T) {
	setEnv(t, env{"SLURM_PROCID": "1", "SLURM_NTASKS": "3", "SLURM_STEP_ID": "0"})
	registry, err := libcluster.StaticFromEnv(0)
	require.NoError(t, err)
	synctest.Test(t, func(t *testing.T) {
		i := start(t, libcluster.Config{Key: "k", Workers: 2, Registry: registry})
		before := i.State()
		for _, workers := range []int{1, 3, 4} {
			require.ErrorContains(t, i.SetWorkers(t.Context(), workers), "SLURM_PROCID")
		}
		require.Len(t, told(i), 1)
		require.Equal(t, before, i.State())
		require.NoError(t, i.SetWorkers(t.Context(), 2), "as many as it has")
	})
}

func TestPlainPlaceFromTheEnvironmentTakesOtherWorkersThatFit(t *testing.T) {
	setEnv(t, env{"LIBCLUSTER_INDEX": "2", "LIBCLUSTER_TOTAL": "7"})
	registry, err := libcluster.StaticFromEnv(0)
	require.NoError(t, err)
	i := start(t, libcluster.Config{Key: "k", Workers: 2, Registry: registry})
	require.NoError(t, i.SetWorkers(t.Context(), 5))
	require.ErrorContains(t, i.SetWorkers(t.Context(), 6), "runs past the total 7")
}

func TestHalfAPlaceInTheEnvironmentIsRefusedAndTheMissingHalfNamed(t *testing.T) {
	for name, c := range map[string]struct {
		env     env
		missing string
	}{
		"plain index":       {env{"LIBCLUSTER_INDEX": "1"}, "LIBCLUSTER_TOTAL"},
		"plain total":       {env{"LIBCLUSTER_TOTAL": "1"}, "LIBCLUSTER_INDEX"},
		"AWS Batch index":   {env{"AWS_BATCH_JOB_ARRAY_INDEX": "1"}, "AWS_BATCH_JOB_ARRAY_SIZE"},
		"AWS Batch size":    {env{"AWS_BATCH_JOB_ARRAY_SIZE": "1"}, "AWS_BATCH_JOB_ARRAY_INDEX"},
		"Cloud Run index":   {env{"CLOUD_RUN_TASK_INDEX": "1"}, "CLOUD_RUN_TASK_COUNT"},
		"Cloud Run count":   {env{"CLOUD_RUN_TASK_COUNT": "1"}, "CLOUD_RUN_TASK_INDEX"},
		"Slurm array ID":    {env{"SLURM_ARRAY_TASK_ID": "1"}, "SLURM_ARRAY_TASK_COUNT"},
		"Slurm array count": {env{"SLURM_ARRAY_TASK_COUNT": "1"}, "SLURM_ARRAY_TASK_ID"},
		"Slurm array but for its first": {
			env{"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "2"}, "SLURM_ARRAY_TASK_MIN",
		},
		"Slurm task":  {env{"SLURM_PROCID": "1"}, "SLURM_NTASKS"},
		"Slurm tasks": {env{"SLURM_NTASKS": "1"}, "SLURM_PROCID"},
	} {
		t.Run(name, func(t *testing.T) {
			setEnv(t, c.env)
			registry, err := libcluster.StaticFromEnv(5)
			require.ErrorContains(t, err, c.missing+" is not set")
			require.Nil(t, registry)
		})
	}
}

func TestEnvironmentThatGivesNoPlaceIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		env   env
		tasks int
		says  []string
	}{
		"nothing recognised says what was looked for": {nil, 5, []string{
			"LIBCLUSTER_INDEX", "LIBCLUSTER_TOTAL", "JOB_COMPLETION_INDEX", "AWS_BATCH_JOB_ARRAY_INDEX",
			"CLOUD_RUN_TASK_INDEX", "SLURM_ARRAY_TASK_ID", "SLURM_PROCID",
		}},
		"Kubernetes without completions": {
			env{"JOB_COMPLETION_INDEX": "2"},
			0,
			[]string{"JOB_COMPLETION_INDEX=2 without a total", "completions", "LIBCLUSTER_TOTAL"},
		},
		"Kubernetes with negative completions": {env{"JOB_COMPLETION_INDEX": "2"}, -1, []string{"without a total"}},
		"no number": {
			env{"JOB_COMPLETION_INDEX": "two"},
			5,
			[]string{`JOB_COMPLETION_INDEX="two"`, "not a number from 0 to 2147483647"},
		},
		"a batch script": {env{"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, 0, []string{"SLURM_NTASKS=8", "SLURM_STEP_ID", "srun"}},
		"a batch script with the step's number": {
			env{"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_STEP_ID": "4294967291"}, 0, []string{"SLURM_STEP_ID", "srun"},
		},
		"a fraction":          {env{"SLURM_PROCID": "1.5", "SLURM_NTASKS": "4"}, 0, []string{`SLURM_PROCID="1.5"`}},
		"a negative index":    {env{"LIBCLUSTER_INDEX": "-1", "LIBCLUSTER_TOTAL": "4"}, 0, []string{`LIBCLUSTER_INDEX="-1"`}},
		"a count of too many": {env{"CLOUD_RUN_TASK_INDEX": "1", "CLOUD_RUN_TASK_COUNT": "2147483648"}, 0, []string{"CLOUD_RUN_TASK_COUNT"}},
		"only space":          {env{"SLURM_PROCID": " ", "SLURM_NTASKS": "4"}, 0, []string{`SLURM_PROCID=" "`}},

		"Slurm list 1,3,7":        {slurmArray("3", "1", "7", "1", "3"), 0, []string{"not evenly spaced", "LIBCLUSTER_INDEX"}},
		"Slurm list 0-8:4,2":      {slurmArray("2", "0", "8", "4", "4"), 0, []string{"not evenly spaced"}},
		"Slurm task between":      {slurmArray("3", "0", "8", "4", "3"), 0, []string{"not evenly spaced"}},
		"Slurm step of nothing":   {slurmArray("0", "0", "0", "0", "1"), 0, []string{"not evenly spaced by 0"}},
		"Slurm step is no number": {slurmArray("0", "0", "4", "x", "2"), 0, []string{`SLURM_ARRAY_TASK_STEP="x"`}},
		"Slurm last is no number": {slurmArray("0", "0", "x", "4", "2"), 0, []string{`SLURM_ARRAY_TASK_MAX="x"`}},
		"Slurm array of several tasks each": {
			with(slurmArray("1", "0", "3", "1", "4"), env{"SLURM_NTASKS": "2"}),
			0,
			[]string{"SLURM_ARRAY_TASK_ID=1", "SLURM_NTASKS=2", "cannot be told", "LIBCLUSTER_INDEX"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			setEnv(t, c.env)
			registry, err := libcluster.StaticFromEnv(c.tasks)
			require.Nil(t, registry)
			for _, part := range c.says {
				require.ErrorContains(t, err, part)
			}
		})
	}
}

func TestPlaceFromTheEnvironmentOutsideTheTotalIsRefusedByNew(t *testing.T) {
	for name, c := range map[string]struct {
		env     env
		workers int
		says    string
	}{
		"plain, past the total": {
			env{"LIBCLUSTER_INDEX": "6", "LIBCLUSTER_TOTAL": "7"}, 2, "LIBCLUSTER_INDEX: range [6,8) of 2 workers",
		},
		"task number is the count": {env{"SLURM_PROCID": "4", "SLURM_NTASKS": "4", "SLURM_STEP_ID": "0"}, 2, "SLURM_PROCID: index 8: must be 0 to 7"},
		"array ID below the first": {slurmArray("0", "1", "4", "1", "4"), 1, "SLURM_ARRAY_TASK_ID: index -1"},
		"no tasks":                 {env{"CLOUD_RUN_TASK_INDEX": "0", "CLOUD_RUN_TASK_COUNT": "0"}, 1, "CLOUD_RUN_TASK_INDEX: total 0"},
		"more workers than may be": {env{"SLURM_PROCID": "0", "SLURM_NTASKS": "65536", "SLURM_STEP_ID": "0"}, 65536, "total 4294967296"},
	} {
		t.Run(name, func(t *testing.T) {
			setEnv(t, c.env)
			registry, err := libcluster.StaticFromEnv(0)
			require.NoError(t, err)
			_, err = libcluster.New(libcluster.Config{Key: "k", Workers: c.workers, Registry: registry})
			require.ErrorContains(t, err, c.says)
		})
	}
}

// observing is a registry that notes what it is told, and has a default TTL of its own.
type observing struct {
	libcluster.Registry
	libcluster.Membership
	ttl     time.Duration
	indexes []int
}

func (o *observing) Capabilities() libcluster.Capabilities {
	can := o.Registry.Capabilities()
	can.TTL = 3 * time.Second
	return can
}

func (o *observing) Enter(r libcluster.Registration) (_ libcluster.Membership, err error) {
	o.ttl = r.TTL
	o.Membership, err = o.Registry.Enter(r)
	return o, err
}

func (o *observing) Assigned(s libcluster.State) { o.indexes = append(o.indexes, s.Index) }

func TestRegistryLearnsOfAssignmentsAndOfLeaving(t *testing.T) {
	registry := &observing{Registry: libcluster.Static(2, 3)}
	c, err := libcluster.New(libcluster.Config{Key: "k", Registry: registry})
	require.NoError(t, err)
	require.NoError(t, c.Join(t.Context()))
	require.NoError(t, c.Leave(t.Context()))
	require.Equal(t, []int{2, -1}, registry.indexes)
}

func TestRegistryMayHaveADefaultTTLOfItsOwn(t *testing.T) {
	for given, want := range map[time.Duration]time.Duration{0: 3 * time.Second, time.Minute: time.Minute} {
		registry := &observing{Registry: libcluster.Static(0, 1)}
		_, err := libcluster.New(libcluster.Config{Key: "k", Registry: registry, TTL: given})
		require.NoError(t, err)
		require.Equal(t, want, registry.ttl)
	}
}
