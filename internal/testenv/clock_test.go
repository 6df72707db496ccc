package testenv_test

import (
	"testing"
	"time"

	"github.com/outboxd/outboxd/internal/testenv"
)

func TestClockOfAServerSteps(t *testing.T) {
	server := testenv.NewPostgres(t, testenv.PostgresOptions{Clock: true})
	session := connect(t, server.URL)
	for _, by := range []time.Duration{0, time.Hour, -time.Hour, 0} {
		if err := server.StepClock(by); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the clock differs by "+by.String(), func() string {
			if differs := time.Until(ask[time.Time](t, session, "SELECT clock_timestamp()")); (differs - by).Abs() > 5*time.Minute {
				return differs.String()
			}
			return ""
		})
	}
}
