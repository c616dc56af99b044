// Package kvtest holds every store to what package kv says of stores. A test of a store
// runs it:
//
//	func TestStore(t *testing.T) {
//		kvtest.Run(t, kvtest.Harness{
//			Open: func(t *testing.T) kv.Store { return mystore.New(t.TempDir()) },
//		})
//	}
//
// [Memory] is a store that keeps to it all, for tests of what is built on stores.
package kvtest

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/libcluster/libcluster/kv"
)

// Harness is a store to test and what the suite has to know of it. Only Open is required.
type Harness struct {
	// Open returns the store for one test. It may be the same each time: the names of
	// spaces are random. The store must work meanwhile: a call that fails for a reason
	// that package kv does not name fails the test.
	Open func(t *testing.T) kv.Store

	// Around runs one test. With [testing/synctest.Test] here the suite runs in virtual
	// time, where it judges how soon calls return. Default: the test is just run, and a
	// call that returns within Patience is soon enough.
	Around func(t *testing.T, test func(t *testing.T))

	// Forget drops the history of a space as far as the store can, so that a watch that
	// has yet to read it cannot. Nil: the store cannot be told to, and one claim is left out.
	Forget func(t *testing.T, store kv.Store, space string)

	// Nests says that names are paths: a space shows what spaces hold whose names begin with
	// its name and '/'.
	Nests bool

	// TTL is what is asked for where a test waits for a lease to end: the shortest that
	// the store grants. Default: 2 s.
	TTL time.Duration
	// Patience is how long anything that must happen may take; it is waited for in full
	// only when a test fails. Default: 2 min.
	Patience time.Duration
	// Quiet is how long nothing must happen for a test to believe that nothing will.
	// Default: 200 ms.
	Quiet time.Duration

	soon time.Duration // how long a call may take to return after its context has ended
}

// claim is one thing that a store promises. Its name says it.
type claim struct {
	name string
	test func(s *suite)
}

var claims = []claim{
	{"CommitIsCarriedOutIfAllConditionsHold", commitIsCarriedOut},
	{"CommitChangesNothingIfOneConditionDoesNotHold", commitChangesNothing},
	{"FailedCommitTellsTheRecordsOfItsConditions", failedCommitTellsTheRecords},
	{"OneOfManyCommitsOnOneVersionWins", oneOfManyCommitsWins},
	{"VersionsGrowAndAreNeverUsedTwice", versionsGrow},
	{"CreatedIsOfTheFirstWrite", createdIsOfTheFirstWrite},
	{"CommitThatListsShowsItsOwnWritesAndNothingLater", commitThatLists},
	{"CommitHandsOverEveryRecordOnce", commitHandsOverEveryRecord},
	{"ErrorOfEachLeavesTheWritesOfACommit", errorOfEachLeavesTheWrites},

	{"GetSeesWhatHasReturnedBefore", getSeesWhatHasReturnedBefore},
	{"ListIsOfItsPrefixInTheOrderOfKeys", listIsOfItsPrefix},
	{"ErrorOfEachEndsAListAndIsReturned", errorOfEachEndsAList},
	{"ListIsOfOneInstant", listIsOfOneInstant},
	{"NothingReadIsOfAnEarlierTime", nothingReadIsOfAnEarlierTime},
	{"OddKeysAndValuesAreKeptApart", oddKeysAndValues},
	{"SpacesAreKeptApart", spacesAreKeptApart},
	{"MarkNamesOneStore", markNamesOneStore},
	{"SpacesWithLeasesAreListed", spacesAreListed},

	{"LeaseIsGrantedForWhatIsAskedOrMore", leaseIsGranted},
	{"LeaseThatIsNotRenewedEnds", leaseThatIsNotRenewedEnds},
	{"RenewedLeaseLives", renewedLeaseLives},
	{"RecordsGoWithTheirLeaseInOneCommit", recordsGoWithTheirLease},
	{"EndedLeaseNeverLivesAgain", endedLeaseNeverLivesAgain},
	{"LeaseThatHasRunOutNeverLivesAgain", leaseThatHasRunOutNeverLivesAgain},
	{"BeginOfALivingOwnerIsRefused", beginOfALivingOwner},
	{"PutUnderAnEndedLeaseDoesNothing", putUnderAnEndedLease},
	{"NothingIsLeftOfALeaseThatEndsMeanwhile", nothingIsLeft},
	{"RecordMovedToAnotherLeaseOutlivesTheFirst", recordMovedToAnotherLease},
	{"RecordWithoutLeaseStays", recordWithoutLeaseStays},
	{"ClosedSpaceLeavesItsLeases", closedSpaceLeavesItsLeases},

	{"WatchReportsEachCommitOnceAndInOrder", watchReportsEachCommit},
	{"WatchFromARevisionReportsAllAfterIt", watchFromARevision},
	{"WatchOpenedBeforeAListMissesNothing", watchOpenedBeforeAList},
	{"DeletionAndTheEndOfALeaseAreReported", deletionIsReported},
	{"WatchOfAPrefixReportsNoOthers", watchOfAPrefix},
	{"WatchThatNobodyReadsHoldsUpNobody", watchThatNobodyReads},
	{"CancelledNextLosesNothing", cancelledNextLosesNothing},
	{"WatchThatHasMissedSomethingSaysSo", watchThatHasMissedSomething},

	{"CallsReturnSoonAfterTheirContextEnds", callsReturnSoon},
	{"ClosingEndsCallsAndWatches", closingEndsCallsAndWatches},
	{"ManyUsersAtOnce", manyUsersAtOnce},
}

// Run holds a store to what package kv says, each claim in a subtest of its own. The
// subtests are parallel.
func Run(t *testing.T, h Harness) {
	t.Helper()
	h = h.withDefaults()
	for _, c := range claims {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h.Around(t, func(t *testing.T) {
				s := newSuite(t, h, h.Open(t))
				if h.Forget != nil {
					s.forget = func() { h.Forget(t, s.store, s.space) }
				}
				c.test(s)
			})
		})
	}
}

func (h Harness) withDefaults() Harness {
	if h.Patience == 0 {
		h.Patience = 2 * time.Minute
	}
	h.soon = 2 * time.Second
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

// judge is what a claim says its verdict to: a [testing.T], mostly.
type judge interface {
	Helper()
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	FailNow()
	Cleanup(f func())
}

// suite is one test's store.
type suite struct {
	judge
	h      Harness
	store  kv.Store
	space  string // the test's own
	forget func() // drops the history of space; nil: the store cannot
}

func newSuite(j judge, h Harness, store kv.Store) *suite {
	return &suite{judge: j, h: h, store: store, space: "kvtest " + rand.Text()}
}
