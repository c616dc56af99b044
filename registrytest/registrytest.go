// Package registrytest holds every registry to the same promises, as
// testing/fstest does with file systems. The author of a
// [libcluster.Registry] runs it in one test:
//
//	func TestRegistry(t *testing.T) {
//		registrytest.Run(t, registrytest.Harness{
//			Open: func(t *testing.T) libcluster.Registry { return myregistry.New(t.TempDir()) },
//		})
//	}
//
// It holds sessions to the modes with a plan too: that what is swapped is compared,
// that a survey is of one instant, that a session whose record has gone can say nothing
// any more. The safety of mode [libcluster.ModeExclusive] rests on no more than that.
//
// What a registry can do its [libcluster.Capabilities] say; the tests that need
// more are left out, and the log names them. Nothing is ever concluded from a
// registry's type or name.
package registrytest

import (
	"context"
	"crypto/rand"
	"testing"
	"time"

	"github.com/libcluster/libcluster"
)

// Harness is a registry to test and what the suite has to know of it. Only Open
// is required.
type Harness struct {
	// Open returns the registry for one test, ready to be joined. All that a
	// test does is below a random key of its own, so that it may be the same
	// store each time, but the store's history must not be dropped meanwhile. What
	// Open starts it ends with t.Cleanup; by then every session has been left.
	Open func(t *testing.T) libcluster.Registry

	// Around runs one test. With [testing/synctest.Test] here the suite runs in
	// virtual time, where it judges how soon calls return. Default: the test is just
	// run, and a call that returns within Patience is soon enough.
	Around func(t *testing.T, test func(t *testing.T))

	// Put writes a record as another program would, past the registry's own code:
	// any bytes, under any ID, without a lease. cluster is KEY/ENV or
	// KEY/PARTITION/ENV. registry is what Open returned. Nil: no other
	// program can write there.
	Put func(ctx context.Context, registry libcluster.Registry, cluster, id string, record []byte) error
	// Delete deletes a record by hand, whosever it is. Nil: that cannot be done.
	Delete func(ctx context.Context, registry libcluster.Registry, cluster, id string) error

	// TTL is what is asked for where a test waits for a record to expire: the
	// shortest that the registry grants. Default: 2 s.
	TTL time.Duration
	// Patience is how long anything that must happen may take; it is waited for
	// in full only when a test fails. Default: 2 min.
	Patience time.Duration
	// Heavy has tests that would join dozens of instances at a time join some ten, for a
	// registry that runs so much for each that a busy machine never gets done with it.
	Heavy bool
	// Quiet is how long nothing must happen for a test to believe that nothing
	// will. Default: 200 ms.
	Quiet time.Duration

	can  libcluster.Capabilities // the registry's
	soon time.Duration           // how long a call may take to return after its context has ended
}

// need is a capability that a test cannot do without.
type need int

const (
	others     need = iota // Members
	order                  // Agreed
	expiry                 // Expires
	returning              // Reserves
	plans                  // Plans
	strangers              // Put
	deletion               // Delete
	assignment             // not Members
)

func (n need) String() string {
	return [...]string{
		"members that see one another", "an agreed order", "records that expire", "records that stay for a restart",
		"a plan", "records that other programs write", "records deleted by hand", "an assigned range",
	}[n]
}

func (h Harness) has(n need) bool {
	return [...]bool{
		h.can.Members, h.can.Agreed, h.can.Expires, h.can.Reserves,
		h.can.Plans, h.Put != nil, h.Delete != nil, !h.can.Members,
	}[n]
}

func (h Harness) lacks(needs []need) (need, bool) {
	for _, n := range needs {
		if !h.has(n) {
			return n, true
		}
	}
	return 0, false
}

// test is one promise. Its name is the claim.
type test struct {
	name  string
	run   func(s *suite)
	needs []need
}

var tests = []test{
	{"FirstChangeAssignsARange", firstChangeAssignsARange, []need{assignment}},
	{"CallsReturnSoonAfterTheirContextEnds", callsReturnSoonAfterTheirContextEnds, nil},
	{"LeavingAndClosingAgainIsHarmless", leavingAndClosingAgainIsHarmless, nil},

	{"ListAtJoiningIsCompleteAndIncludesOneself", listAtJoiningIsComplete, []need{others}},
	{"ListAtJoiningIsOfThatInstant", listAtJoiningIsOfThatInstant, []need{others, order}},
	{"ChangesArriveInOrderAndOnce", changesArriveInOrderAndOnce, []need{others, order}},
	{"SameGenerationMeansSameMembers", sameGenerationMeansSameMembers, []need{others, order}},
	{"UpdateIsSeenByTheOthersAndByOneself", updateIsSeenByAll, []need{others}},
	{"LeaveIsSeenAtOnce", leaveIsSeenAtOnce, []need{others}},
	{"PassiveSessionSeesAndIsNotSeen", passiveSeesAndIsNotSeen, []need{others}},
	{"PassiveSessionLeavesTheMemberOfItsIDAlone", passiveLeavesItsNamesakeAlone, []need{others}},
	{"ManyJoinsAndLeavesStayExact", manyJoinsAndLeavesStayExact, []need{others}},

	{"TakenInstanceIsTold", takenInstanceIsTold, []need{others}},
	{"TakenInstanceCannotTouchTheNewRecord", takenInstanceCannotTouchTheNewRecord, []need{others}},
	{"RefusedInstanceHasTakenNothing", refusedInstanceHasTakenNothing, []need{others}},
	{"RejoiningKeepsTheAssignment", rejoiningKeepsTheAssignment, []need{others}},
	{"RejoiningAfterTheRecordIsGone", rejoiningAfterTheRecordIsGone, []need{others, deletion}},
	{"HalfMadeRejoiningIsOnesOwn", halfMadeRejoiningIsOnesOwn, []need{others}},
	{"LateAttemptOfTheSameMembershipIsItsOwn", lateAttemptIsItsOwn, []need{others}},
	{"RejoiningDoesNotTakeTheIDBack", rejoiningDoesNotTakeTheIDBack, []need{others}},
	{"LeavingForARestartReservesTheAssignment", leavingForARestartReservesTheAssignment, []need{others, returning}},
	{"LeavingForARestartThatNeverComesFreesTheAssignment", leavingForARestartFreesTheAssignment, []need{others, returning, expiry}},
	{"TakenInstanceCannotReserveTheAssignment", takenInstanceCannotReserveTheAssignment, []need{others, returning}},
	{"JoiningAgainAfterLeaving", joiningAgainAfterLeaving, []need{others}},
	{"NothingComesBackAfterLeaving", nothingComesBackAfterLeaving, []need{others}},
	{"RecordThatIsNotRenewedExpires", recordThatIsNotRenewedExpires, []need{others, expiry}},
	{"RenewedRecordOutlivesItsTTL", renewedRecordOutlivesItsTTL, []need{others, expiry}},
	{"ClosedSessionKeepsItsRecordUntilTheTTL", closedSessionKeepsItsRecord, []need{others, expiry}},
	{"DeletedRecordIsToldToItsSession", deletedRecordIsTold, []need{others, deletion}},
	{"OverwrittenRecordIsToldToItsSession", overwrittenRecordIsTold, []need{others, strangers}},

	{"LookingShowsWhatIsThereNow", lookingShowsWhatIsThereNow, []need{others, plans}},
	{"LookingIsAnybodysAtAnyTime", lookingIsAnybodysAtAnyTime, []need{others, plans}},
	{"LookingShowsAReservedAssignment", lookingShowsAReservedAssignment, []need{others, plans, returning}},
	{"OrphansAreTold", orphansAreTold, []need{others, plans, strangers}},

	{"CancelledNextLosesNothing", cancelledNextLosesNothing, []need{others, order}},
	{"ClosingEndsANextThatWaits", closingEndsANextThatWaits, []need{others}},
	{"SessionServesManyGoroutines", sessionServesManyGoroutines, []need{others}},

	{"NextReportsThePlanAndTheCoordinator", inEachPlan(nextReportsThePlan), []need{others, plans}},
	{"MembersDoNotWakeANextThatReportsThePlan", inEachPlan(membersDoNotWakeNext), []need{others, plans}},
	{"NextReportsMembersTooIfTheyAreAskedFor", inEachPlan(nextReportsMembersIfAsked), []need{others, plans}},
	{"SwapIsCompareAndSwap", inEachPlan(swapIsCompareAndSwap), []need{others, plans}},
	{"SwapHasNoEffectForOneThatDoesNotCoordinate", inEachPlan(swapNeedsTheCoordinator), []need{others, plans}},
	{"SwapHasNoEffectForOneThatHasLostItsRecord", inEachPlan(swapNeedsTheRecord), []need{others, plans, deletion}},
	{"OneOfManySwapsOfOneRevisionWins", inEachPlan(oneOfManySwapsWins), []need{others, plans}},
	{"PlanOutlivesItsMembers", inEachPlan(planOutlivesItsMembers), []need{others, plans}},
	{"OneOfManyClaimsWins", inEachPlan(oneOfManyClaimsWins), []need{others, plans}},
	{"CoordinatorThatLeavesIsVacated", inEachPlan(coordinatorIsVacated), []need{others, plans}},
	{"CoordinatorThatIsLostIsVacated", inEachPlan(coordinatorThatIsLostIsVacated), []need{others, plans, expiry}},
	{"RejoiningVacatesTheCoordinator", inEachPlan(rejoiningVacatesTheCoordinator), []need{others, plans, deletion}},
	{"LostRecordIsToldByRenewInAModeWithAPlan", inEachPlan(lostRecordIsToldByRenew), []need{others, plans, deletion}},
	{"SurveyTellsAllThereIs", inEachPlan(surveyTellsAll), []need{others, plans}},
	{"IncarnationsAreNeverTheSame", inEachPlan(incarnationsAreNeverTheSame), []need{others, plans}},
	{"SurveyWaitsForAnyChangeByOthers", inEachPlan(surveyWaits), []need{others, plans}},
	{"SurveyIsNotWokenByOnesOwnSwapOrClaim", inEachPlan(surveyIsNotWokenByOnesOwnDoing), []need{others, plans}},
	{"SurveyIsOfOneInstant", inEachPlan(surveyIsNoMixture), []need{others, plans}},
	{"AcknowledgementIsForOnePlan", inEachPlan(acknowledgementIsForOnePlan), []need{others, plans}},
	{"OneThatIsOverHasNoSay", inEachPlan(oneThatIsOverHasNoSay), []need{others, plans, deletion}},
	{"LeavingStoppedIsOneStep", inEachPlan(leavingStoppedIsOneStep), []need{others, plans}},
	{"LeavingStoppedForARestartKeepsTheRecord", inEachPlan(leavingStoppedForARestartKeepsTheRecord), []need{others, plans, returning}},
	{"LeavingStoppedForARestartThatNeverComesFreesTheRecord", inEachPlan(leavingStoppedForARestartThatNeverComes), []need{others, plans, returning, expiry}},
	{"RejoiningNotesThatThePreviousIncarnationHasStopped", rejoiningNotesThePreviousIncarnation, []need{others, plans}},
	{"RejoiningNotesAPreviousIncarnationWhoseRecordIsGone", rejoiningNotesAPreviousIncarnationWhoseRecordIsGone, []need{others, plans, deletion}},
	{"GarbageIsNoMemberInASurvey", inEachPlan(garbageIsNoMemberInASurvey), []need{others, plans, strangers}},
	{"PlanCallsReturnSoonAfterTheirContextEnds", inEachPlan(planCallsReturnSoonAfterTheirContextEnds), []need{others, plans}},
	{"ClosingEndsASurveyThatWaits", inEachPlan(closingEndsASurveyThatWaits), []need{others, plans}},
	{"PlansOfClustersAreKeptApart", inEachPlan(plansOfClustersAreKeptApart), []need{others, plans}},
	{"DrainingIsReportedUntilItIsTakenBack", inEachPlan(drainingIsReported), []need{others, plans}},
	{"DrainedSessionOfModeDirectLeavesAndJoinsWhenItMay", drainedSessionLeaves, []need{others, plans}},
	{"DirectSessionSeesNoPlan", inEachPlan(directSessionSeesNoPlan), []need{others, plans}},

	{"GarbageIsIgnoredAndShiftsNobody", garbageIsIgnored, []need{others, strangers}},
	{"ValidRecordOfAnotherProgramCounts", validRecordOfAnotherProgramCounts, []need{others, strangers, deletion}},
	{"OddIDsAreKeptApart", oddIDsAreKeptApart, []need{others}},
	{"ClustersAreKeptApart", clustersAreKeptApart, []need{others}},
}

// Run holds the registry to what every registry promises, each promise in a
// subtest of its own. The subtests are parallel.
func Run(t *testing.T, h Harness) {
	t.Helper()
	h = h.withDefaults()
	h.can = h.Open(t).Capabilities()
	for _, test := range tests {
		if lacking, lacks := h.lacks(test.needs); lacks {
			t.Logf("left out: %s, which needs %s", test.name, lacking)
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h.Around(t, func(t *testing.T) {
				test.run(&suite{T: t, h: h, registry: h.Open(t), key: "registrytest " + rand.Text()})
			})
		})
	}
}

func (h Harness) withDefaults() Harness {
	if h.Patience == 0 {
		h.Patience = 2 * time.Minute
	}
	h.soon = soon
	if h.Around == nil {
		h.soon = h.Patience
		h.Around = func(t *testing.T, test func(t *testing.T)) { test(t) }
	}
	if h.TTL == 0 {
		h.TTL = 2 * time.Second
	}
	if h.Quiet == 0 {
		h.Quiet = 200 * time.Millisecond
	}
	return h
}
