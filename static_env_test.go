package libcluster_test

import (
	"maps"
	"os"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/testcluster"
)

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

func TestStaticAssignmentComesFromTheSchedulersEnvironment(t *testing.T) {
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
			i := testcluster.Start(t, libcluster.Config{Key: "k", Workers: c.workers, Registry: registry})
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
		i := testcluster.Start(t, libcluster.Config{Key: "k", Workers: workers, Registry: registry})
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
		i := testcluster.Start(t, libcluster.Config{Key: "k", Workers: 2, Registry: registry})
		before := i.State()
		for _, workers := range []int{1, 3, 4} {
			require.ErrorContains(t, i.SetWorkers(t.Context(), workers), "SLURM_PROCID")
		}
		require.Len(t, told(i), 1)
		require.Equal(t, before, i.State())
		require.NoError(t, i.SetWorkers(t.Context(), 2), "as many as it has")
	})
}

func TestPlainAssignmentFromTheEnvironmentTakesOtherWorkersThatFit(t *testing.T) {
	setEnv(t, env{"LIBCLUSTER_INDEX": "2", "LIBCLUSTER_TOTAL": "7"})
	registry, err := libcluster.StaticFromEnv(0)
	require.NoError(t, err)
	i := testcluster.Start(t, libcluster.Config{Key: "k", Workers: 2, Registry: registry})
	require.NoError(t, i.SetWorkers(t.Context(), 5))
	require.ErrorContains(t, i.SetWorkers(t.Context(), 6), "runs past the total 7")
}

func TestHalfAnAssignmentInTheEnvironmentIsRefusedAndTheMissingHalfNamed(t *testing.T) {
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

func TestEnvironmentThatGivesNoAssignmentIsRefused(t *testing.T) {
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

func TestAssignmentFromTheEnvironmentOutsideTheTotalIsRefusedByNew(t *testing.T) {
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
