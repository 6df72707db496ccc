package relay

import (
	"errors"
	"fmt"
	"testing"

	"github.com/outboxd/outboxd/wal"
)

func TestLostSlotHidesNeitherAForeignFilterNorAnotherLayout(t *testing.T) {
	failed := func(check wal.Check) error {
		return &wal.CheckError{Check: check, Problem: string(check), Mend: "mend it"}
	}
	lost, publication := failed(wal.CheckSlotLost), failed(wal.CheckPublication)
	for _, c := range []struct {
		err      error
		hindered bool
	}{
		{nil, false},
		{errors.Join(lost), false},
		{errors.Join(lost, publication), false},
		{errors.Join(publication), true},
		{errors.Join(lost, publication, failed(wal.CheckFilter)), true},
		{errors.Join(failed(wal.CheckLayout), lost), true},
		{errors.New("connection reset"), true},
	} {
		err := hindering(c.err)
		if (err != nil) != c.hindered {
			t.Errorf("%v: got %v, hindered should be %v", c.err, err, c.hindered)
		}
		if isLost(err) || err != nil && fatal(c.err) && !fatal(err) {
			t.Errorf("%v: %v does not end Run", c.err, fmt.Sprint(err))
		}
	}
}
