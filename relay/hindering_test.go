package relay

import (
	"errors"
	"fmt"
	"testing"

	"github.com/outboxd/outboxd/wal"
)

func TestLostSlotHidesNothingElseThatIsWrong(t *testing.T) {
	failed := func(check wal.Check) error {
		return &wal.CheckError{Check: check, Problem: string(check), Mend: "mend it"}
	}
	lost, publication := failed(wal.CheckSlotLost), failed(wal.CheckPublication)
	for _, c := range []struct {
		err       error
		published bool // there is a publication
		hindered  bool
	}{
		{nil, true, false},
		{errors.Join(lost), true, false},
		{errors.Join(lost, publication), false, false},
		{errors.Join(lost, publication), true, true},
		{errors.Join(publication), false, true},
		{errors.Join(lost, publication, failed(wal.CheckFilter)), false, true},
		{errors.Join(failed(wal.CheckLayout), lost), true, true},
		{errors.Join(lost, failed(wal.CheckTable)), true, true},
		{errors.New("connection reset"), false, true},
	} {
		err := hindering(c.err, c.published)
		if (err != nil) != c.hindered {
			t.Errorf("%v: got %v, hindered should be %v", c.err, err, c.hindered)
		}
		if isLost(err) || err != nil && fatal(c.err) && !fatal(err) {
			t.Errorf("%v: %v does not end Run", c.err, fmt.Sprint(err))
		}
	}
}
