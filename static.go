package libcluster

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Static returns a registry that coordinates nothing. Its arguments are this instance's
// base index, counted in workers, and the cluster's total. The other instances must be
// started with matching arguments. The range [index, index+Workers) must lie inside
// [0, total); [New] refuses any other range.
//
// In a static cluster an assignment never changes, and no instance is ever fenced.
// SetWorkers works as long as the range still fits.
func Static(index, total int) Registry {
	return static{source: "Static", assign: func(int) (int, int) { return index, total }}
}

// StaticFromEnv returns a registry like [Static] that takes the assignment from the
// environment that a batch scheduler sets. The first of these that is set counts:
//
//	LIBCLUSTER_INDEX, LIBCLUSTER_TOTAL                    plain
//	JOB_COMPLETION_INDEX                                  Kubernetes indexed Job
//	AWS_BATCH_JOB_ARRAY_INDEX, AWS_BATCH_JOB_ARRAY_SIZE   AWS Batch array job
//	CLOUD_RUN_TASK_INDEX, CLOUD_RUN_TASK_COUNT            Cloud Run job
//	SLURM_ARRAY_TASK_ID, _MIN, _COUNT (and _STEP, _MAX)   Slurm job array
//	SLURM_PROCID, SLURM_NTASKS (and SLURM_STEP_ID)        Slurm tasks (srun)
//
// LIBCLUSTER_INDEX and LIBCLUSTER_TOTAL count workers, as Static does. The schedulers
// number their tasks. StaticFromEnv assumes that each task runs the same number of
// workers: with 4 workers each, task 2 of 5 has index 8 of 20. So while joined,
// SetWorkers is refused.
//
// Kubernetes does not tell its pods the Job's number of completions. Give it as tasks, or
// in LIBCLUSTER_TOTAL, which then counts tasks. All other schedulers ignore tasks, which
// may be 0. The documentation of each: [Kubernetes], [AWS Batch], [Cloud Run],
// [Slurm], and for arrays [Slurm arrays].
//
// StaticFromEnv returns an error if it recognises nothing, if half of a pair is missing,
// if a value is no number, or if this is none of several Slurm tasks, as in a batch script
// without srun. An assignment that is out of range is refused by New.
//
// [Kubernetes]: https://kubernetes.io/docs/concepts/workloads/controllers/job/#completion-mode
// [AWS Batch]: https://docs.aws.amazon.com/batch/latest/userguide/job_env_vars.html
// [Cloud Run]: https://cloud.google.com/run/docs/container-contract#jobs-env-vars
// [Slurm]: https://slurm.schedmd.com/srun.html#SECTION_OUTPUT-ENVIRONMENT-VARIABLES
// [Slurm arrays]: https://slurm.schedmd.com/job_array.html#env_vars
func StaticFromEnv(tasks int) (Registry, error) {
	for _, read := range []func(int) (*static, error){
		plainEnv, kubernetesEnv,
		pairEnv("AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE"),
		pairEnv("CLOUD_RUN_TASK_INDEX", "CLOUD_RUN_TASK_COUNT"),
		slurmArrayEnv,
		slurmTaskEnv,
	} {
		s, err := read(tasks)
		if err != nil {
			return nil, fmt.Errorf("libcluster: static assignment from the environment: %w", err)
		}
		if s != nil {
			return *s, nil
		}
	}
	return nil, fmt.Errorf("libcluster: static assignment from the environment: none of LIBCLUSTER_INDEX, " +
		"JOB_COMPLETION_INDEX, AWS_BATCH_JOB_ARRAY_INDEX, CLOUD_RUN_TASK_INDEX, SLURM_ARRAY_TASK_ID and " +
		"SLURM_PROCID is set; set LIBCLUSTER_INDEX and LIBCLUSTER_TOTAL")
}

const (
	envIndex      = "LIBCLUSTER_INDEX"
	envTotal      = "LIBCLUSTER_TOTAL"
	envCompletion = "JOB_COMPLETION_INDEX"
	envArrayID    = "SLURM_ARRAY_TASK_ID"
	envArrayMin   = "SLURM_ARRAY_TASK_MIN"
	envArrayMax   = "SLURM_ARRAY_TASK_MAX"
	envArrayStep  = "SLURM_ARRAY_TASK_STEP"
	envArrayCount = "SLURM_ARRAY_TASK_COUNT"
	envTask       = "SLURM_PROCID"
	envTasks      = "SLURM_NTASKS"
	envStep       = "SLURM_STEP_ID"
)

// ofTasks is the assignment of one task among equals.
func ofTasks(source string, task, tasks int) *static {
	return &static{
		source: source,
		assign: func(workers int) (int, int) { return task * workers, tasks * workers },
		equal:  true,
	}
}

func plainEnv(int) (*static, error) {
	if !isSet(envIndex) && (!isSet(envTotal) || isSet(envCompletion)) {
		return nil, nil
	}
	index, total, err := envPair(envIndex, envTotal)
	if err != nil {
		return nil, err
	}
	return &static{source: envIndex, assign: func(int) (int, int) { return index, total }}, nil
}

func kubernetesEnv(tasks int) (*static, error) {
	if !isSet(envCompletion) {
		return nil, nil
	}
	index, err := envInt(envCompletion)
	if err != nil {
		return nil, err
	}
	if isSet(envTotal) {
		if tasks, err = envInt(envTotal); err != nil {
			return nil, err
		}
	} else if tasks < 1 {
		return nil, fmt.Errorf("%s=%d without a total: give the Job's completions, or set %s to them",
			envCompletion, index, envTotal)
	}
	return ofTasks(envCompletion, index, tasks), nil
}

// pairEnv reads an index and a count that come together.
func pairEnv(indexVar, countVar string) func(int) (*static, error) {
	return func(int) (*static, error) {
		if !isSet(indexVar) && !isSet(countVar) {
			return nil, nil
		}
		index, count, err := envPair(indexVar, countVar)
		if err != nil {
			return nil, err
		}
		return ofTasks(indexVar, index, count), nil
	}
}

// slurmArrayEnv turns a job array's task ID into an index. IDs start anywhere
// and may be apart, but a list such as 1,3,7 has no even step and so no index.
func slurmArrayEnv(int) (*static, error) {
	if !isSet(envArrayID) && !isSet(envArrayCount) {
		return nil, nil
	}
	id, count, err := envPair(envArrayID, envArrayCount)
	if err != nil {
		return nil, err
	}
	first, err := envInt(envArrayMin)
	if err != nil {
		return nil, err
	}
	step := 1
	if isSet(envArrayStep) {
		if step, err = envInt(envArrayStep); err != nil {
			return nil, err
		}
	}
	last := first + (count-1)*step
	if isSet(envArrayMax) {
		if last, err = envInt(envArrayMax); err != nil {
			return nil, err
		}
	}
	if step < 1 || last != first+(count-1)*step || (id-first)%step != 0 {
		return nil, fmt.Errorf("%s=%d: %d array tasks from %d to %d are not evenly spaced by %d; set %s and %s instead",
			envArrayID, id, count, first, last, step, envIndex, envTotal)
	}
	if isSet(envTasks) {
		if n, err := envInt(envTasks); err != nil || n > 1 {
			return nil, fmt.Errorf("%s=%d with %s=%s: which of an array task's tasks this is cannot be told; set %s and %s instead",
				envArrayID, id, envTasks, os.Getenv(envTasks), envIndex, envTotal)
		}
	}
	return ofTasks(envArrayID, (id-first)/step, count), nil
}

// slurmTaskEnv reads which of the tasks this is that srun has started. In a batch
// script, and what it starts without srun, SLURM_PROCID is 0 and SLURM_NTASKS the
// number of tasks that were asked for: the script is not one of them.
func slurmTaskEnv(tasks int) (*static, error) {
	s, err := pairEnv(envTask, envTasks)(tasks)
	if s == nil || err != nil || os.Getenv(envTasks) == "1" {
		return s, err
	}
	step := os.Getenv(envStep)
	if n, err := strconv.ParseUint(strings.TrimSpace(step), 10, 32); err != nil || n > lastStep {
		return nil, fmt.Errorf("%s=%s with %s=%s and %s=%.40q: this is the batch script and none of its tasks; start it with srun",
			envTask, os.Getenv(envTask), envTasks, os.Getenv(envTasks), envStep, step)
	}
	return s, nil
}

// lastStep is the highest number of a step of srun's. Slurm's batch script and its
// interactive step have numbers at the end of 32 bits.
const lastStep = 1<<31 - 1

func isSet(name string) bool { return os.Getenv(name) != "" }

func envPair(indexVar, countVar string) (index, count int, err error) {
	if index, err = envInt(indexVar); err != nil {
		return 0, 0, err
	}
	count, err = envInt(countVar)
	return index, count, err
}

func envInt(name string) (int, error) {
	value := os.Getenv(name)
	if value == "" {
		return 0, fmt.Errorf("%s is not set", name)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 32)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s=%.40q is not a number from 0 to %d", name, value, MaxWorkers)
	}
	return int(n), nil
}

// static is the registry of configuration.
type static struct {
	source string
	assign func(workers int) (index, total int)
	equal  bool // the assignment follows from all instances having as many workers
}

func (s static) String() string { return "static" }

// Capabilities: the assignment is as it was when the instance comes back.
func (s static) Capabilities() Capabilities { return Capabilities{Agreed: true, Reserves: true} }

// Enter returns an error if the range is none.
func (s static) Enter(r Registration) (Membership, error) {
	index, total := s.assign(r.Member.Workers)
	return staticMembership{s, r.Passive}, s.fits(index, r.Member.Workers, total)
}

func (s static) fits(index, workers, total int) error {
	switch {
	case total < 1 || total > MaxWorkers:
		return fmt.Errorf("%s: total %d: must be 1 to %d", s.source, total, MaxWorkers)
	case index < 0 || index >= total:
		return fmt.Errorf("%s: index %d: must be 0 to %d, below the total", s.source, index, total-1)
	case index+workers > total:
		return fmt.Errorf("%s: range [%d,%d) of %d workers runs past the total %d", s.source,
			index, index+workers, workers, total)
	}
	return nil
}

type staticMembership struct {
	static
	passive bool
}

func (staticMembership) Assigned(State) {}

func (s staticMembership) Join(_ context.Context, m Member) (Session, time.Duration, error) {
	index, total := s.assign(m.Workers)
	if err := s.fits(index, m.Workers, total); err != nil {
		return nil, 0, Permanent(err)
	}
	session := &staticSession{static: s.static, index: index, workers: m.Workers, total: total, changes: make(chan Change, 1)}
	if s.passive {
		index = -1
	}
	session.changes <- Change{Generation: 1, Reset: true, Assigned: &Range{index, m.Workers, total}}
	return session, 0, nil
}

// staticSession reports its one assignment, and again when the worker count changes.
type staticSession struct {
	static
	index, workers, total int // as joined
	changes               chan Change
	generation            int64 // of the latest change but the first; used by Update only
}

func (s *staticSession) Next(ctx context.Context) (Change, error) {
	select {
	case c := <-s.changes:
		return c, nil
	case <-ctx.Done():
		return Change{}, context.Cause(ctx)
	}
}

func (s *staticSession) Renew(context.Context) (time.Duration, error) { return 0, nil }

func (s *staticSession) Update(_ context.Context, m Member) error {
	if s.equal && m.Workers != s.workers {
		return Permanent(fmt.Errorf("%s: %d workers, and %d as joined: all tasks have the same number, so one cannot change its own",
			s.source, m.Workers, s.workers))
	}
	if err := s.fits(s.index, m.Workers, s.total); err != nil {
		return Permanent(err)
	}
	select {
	case <-s.changes: // not fetched yet, and out of date
	default:
	}
	s.generation++
	s.changes <- Change{Generation: 1 + s.generation, Assigned: &Range{s.index, m.Workers, s.total}}
	return nil
}

func (s *staticSession) Leave(context.Context, Departure) error { return nil }
func (s *staticSession) Close() error                           { return nil }
