package doctor

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Level says how bad a finding is.
type Level string

// The levels, the harmless first.
const (
	OK      Level = "ok"
	Info    Level = "info"    // to be known; nothing has to be done
	Warning Level = "warning" // it works, and somebody should see to it
	Error   Level = "error"   // events are not delivered, or will not be, or may be lost
)

// Finding is what one check has seen.
type Finding struct {
	Area  string `json:"area"`  // "postgres", "schema", "slot", "table", "parked", or "sink NAME"
	Check string `json:"check"` // which check, the same for ever: "wal_level"
	Level Level  `json:"level"`
	Saw   string `json:"saw"`
	Why   string `json:"why,omitempty"`  // why it matters
	Mend  string `json:"mend,omitempty"` // the command, statement or setting
	// Fixable says that Mend can be done by the function of that name.
	Fixable bool `json:"fixable"`

	fix fix
}

// fix does what the finding's mend says, over a connection that may write, and returns what it did.
type fix func(context.Context, *pgx.Conn) (string, error)

func ok(check, format string, args ...any) Finding {
	return Finding{Check: check, Level: OK, Saw: fmt.Sprintf(format, args...)}
}

// found is a finding that is not fine.
func found(level Level, check, saw, why, mend string) Finding {
	return Finding{Check: check, Level: level, Saw: saw, Why: why, Mend: mend}
}

// withFix offers to do what the mend says.
func (f Finding) withFix(do fix) Finding {
	f.Fixable, f.fix = true, do
	return f
}

// Count returns how many findings have the level.
func Count(findings []Finding, level Level) (n int) {
	for _, f := range findings {
		if f.Level == level {
			n++
		}
	}
	return n
}
