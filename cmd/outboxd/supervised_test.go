package main

import (
	"slices"
	"testing"
)

// What demo and bench start must not write to the user's database, nor tell the user's collector of it.
func TestNoSettingOfTheUserReachesWhatIsStarted(t *testing.T) {
	given := []string{"PATH=/bin", "DATABASE_URL=a", "OUTBOXD_SLOT_NAME=b", "BENTO_OUTBOX_BATCH_SIZE=c", "OTEL_EXPORTER_OTLP_ENDPOINT=d", "HOME=/root"}
	if left := withoutSettings(given); !slices.Equal(left, []string{"PATH=/bin", "HOME=/root"}) {
		t.Errorf("%q is left", left)
	}
}
