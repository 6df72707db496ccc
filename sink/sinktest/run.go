package sinktest

import "testing"

// Run runs the suite. The tests that kill the server come last.
func Run(t *testing.T, h Harness) {
	if h.New == nil || h.Destination == nil || h.Read == nil {
		t.Fatal("sinktest: New, Destination and Read of the Harness must be set")
	}
	s := suite{h: &h}
	readable := !h.WriteOnly
	for _, c := range []struct {
		name string
		can  bool
		run  func(*testing.T)
	}{
		{"MessagesLandInOrder", true, s.messagesLandInOrder},
		{"OneBatchHoldsSeveralDestinations", true, s.oneBatchHoldsSeveralDestinations},
		{"LanesPublishAtOnce", true, s.lanesPublishAtOnce},
		{"LargestBatchLandsAtOnce", true, s.largestBatchLandsAtOnce},
		{"ContentArrivesAsItWas", true, s.contentArrivesAsItWas},
		{"EmptyBatchIsAccepted", true, s.emptyBatchIsAccepted},
		{"NothingLandsBehindARejectedMessage", h.TooLarge > 0, s.nothingLandsBehindARejectedMessage},
		{"MissingDestinationIsUnavailable", h.Missing != nil, s.missingDestinationIsUnavailable},
		{"WrongCredentialsAreUnavailableAndSecret", h.WrongCredentials != nil, s.wrongCredentialsAreUnavailableAndSecret},
		{"UnreachableServerIsUnavailable", h.Unreachable != nil, s.unreachableServerIsUnavailable},
		{"ProbeOfAGoodDestinationSendsNothing", true, s.probeOfAGoodDestinationSendsNothing},
		{"TailOfAnEmptyDestinationIsEmpty", true, s.tailOfAnEmptyDestinationIsEmpty},
		{"TailReturnsTheNewestEntries", readable, s.tailReturnsTheNewestEntries},
		{"TailReadsFrontierAndReplay", readable, s.tailReadsFrontierAndReplay},
		{"TailPassesOverForeignEntries", readable && h.Append != nil, s.tailPassesOverForeignEntries},
		{"ForeignEntryWithOurIDIsNoneOfOurs", readable && h.Append != nil, s.foreignEntryWithOurIDIsNoneOfOurs},
		{"PartitionsAreDestinationsOfTheirOwn", readable && h.Partitioned != nil, s.partitionsAreDestinationsOfTheirOwn},
		{"PublishBeforeTailIsRefused", readable, s.publishBeforeTailIsRefused},
		{"PublishAfterAnUnknownFateIsRefused", readable, s.publishAfterAnUnknownFateIsRefused},
		{"ForeignWriterDoesNotStopTheStream", readable && h.Append != nil, s.foreignWriterDoesNotStopTheStream},
		{"LateBatchOfAnOlderSinkIsFenced", readable && !h.Unfenced, s.lateBatchOfAnOlderSinkIsFenced},
		{"OlderSinkAppendsNothingBehindTheTail", readable && !h.Unfenced, s.olderSinkAppendsNothingBehindTheTail},
		{"CancelledPublishReturnsAtOnce", h.Freeze != nil, s.cancelledPublishReturnsAtOnce},
		{"FrozenServerLeavesNothingDoubled", readable && !h.Unfenced && h.Freeze != nil, s.frozenServerLeavesNothingDoubled},
		{"CloseReleasesEverything", true, s.closeReleasesEverything},
		{"KilledServerIsDownUntilItIsBack", readable && h.Kill != nil, s.killedServerIsDownUntilItIsBack},
		{"KilledServerLosesAndDoublesNothing", readable && h.Kill != nil, s.killedServerLosesAndDoublesNothing},
	} {
		if c.can {
			t.Run(c.name, c.run)
		}
	}
}

type suite struct{ h *Harness }
