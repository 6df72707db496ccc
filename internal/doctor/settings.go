package doctor

import (
	"fmt"
	"strconv"
	"time"

	"github.com/outboxd/outboxd/internal/human"
)

// settings are what the server is set to, and how much of it is used.
type settings struct {
	values         map[string]string // of pg_settings, in their base units
	slots, senders int
	maxRetained    int64 // outage.max_retained_wal
}

// number is a setting's value in its base unit; ok is false where the server has no such setting.
func (s *settings) number(name string) (n int64, ok bool) {
	v, there := s.values[name]
	n, err := strconv.ParseInt(v, 10, 64)
	return n, there && err == nil
}

// findings are what the settings mean. That there is no room at all, or wal_level is wrong, is wal.Verify's to say.
func (s *settings) findings() []Finding {
	findings := []Finding{s.walLevel(), s.room("max_replication_slots", "slots", s.slots), s.room("max_wal_senders", "senders", s.senders)}
	findings = append(findings, s.keepSize()...)
	findings = append(findings, s.senderTimeout()...)
	findings = append(findings, s.idleTimeout()...)
	return append(findings, s.switches()...)
}

func (s *settings) walLevel() Finding {
	return Finding{Check: "wal_level", Level: OK, Saw: "wal_level is " + s.values["wal_level"]}
}

func (s *settings) room(name, what string, used int) Finding {
	most, _ := s.number(name)
	if int64(used) < most {
		return ok(name, "%d of %d %s are in use", used, most, what)
	}
	return found(Info, name, fmt.Sprintf("all %d %s are in use", most, what), "a base backup or another standby would find no place",
		fmt.Sprintf("ALTER SYSTEM SET %s = %d and restart PostgreSQL", name, most+5))
}

// keepSize is about the log that a slot may hold back, in MB.
func (s *settings) keepSize() []Finding {
	const name = "max_slot_wal_keep_size"
	megabytes, there := s.number(name)
	switch keep := megabytes << 20; {
	case !there:
		return []Finding{found(Info, name, "this server has no limit of the log that a slot holds back", "an outboxd that is stopped for long lets the disk of the server fill up",
			"watch the disk, and upgrade to PostgreSQL 13 or later")}
	case megabytes < 0:
		return []Finding{found(Info, name, name+" is -1: there is no limit of the log that a slot holds back",
			"an outboxd that is stopped for long lets the disk of the server fill up; a slot that is lost instead is made anew, and what is due is taken from the table",
			fmt.Sprintf("ALTER SYSTEM SET %s = '%dMB'; SELECT pg_reload_conf() (as much as the disk can spare)", name, max(s.maxRetained*4, 10<<30)>>20))}
	case keep < minKeep:
		return []Finding{found(Warning, name, fmt.Sprintf("%s is %s", name, human.Bytes(keep)), "one large transaction, or a short pause of outboxd, costs the slot",
			fmt.Sprintf("ALTER SYSTEM SET %s = '%dMB'; SELECT pg_reload_conf()", name, max(s.maxRetained*4, minKeep)>>20))}
	case keep < 2*s.maxRetained:
		return []Finding{found(Info, name, fmt.Sprintf("%s is %s: in an outage of all brokers events are parked from half of it on, not from outage.max_retained_wal (%s)",
			name, human.Bytes(keep), human.Bytes(s.maxRetained)), "", "")}
	default:
		return []Finding{ok(name, "%s is %s", name, human.Bytes(keep))}
	}
}

// minKeep is 16 segments of the usual size.
const minKeep = 256 << 20

func (s *settings) senderTimeout() []Finding {
	const name = "wal_sender_timeout"
	milliseconds, there := s.number(name)
	switch {
	case !there:
		return nil
	case milliseconds == 0:
		return []Finding{found(Warning, name, name+" is 0", "the server does not notice that an outboxd whose machine is gone no longer reads, and its slot stays in use",
			"ALTER SYSTEM SET "+name+" = '60s'; SELECT pg_reload_conf()")}
	default:
		return []Finding{ok(name, "%s is %s", name, time.Duration(milliseconds)*time.Millisecond)}
	}
}

// idleTimeout is about PostgreSQL 18's way to invalidate slots, in seconds.
func (s *settings) idleTimeout() []Finding {
	const name = "idle_replication_slot_timeout"
	seconds, there := s.number(name)
	idle := time.Duration(seconds) * time.Second
	switch {
	case !there || seconds == 0:
		return nil
	case idle < 24*time.Hour:
		return []Finding{found(Warning, name, fmt.Sprintf("%s is %s", name, idle), "an outboxd that is stopped for so long has lost its slot",
			"ALTER SYSTEM SET "+name+" = 0; SELECT pg_reload_conf() (max_slot_wal_keep_size protects the disk)")}
	default:
		return []Finding{found(Info, name, fmt.Sprintf("%s is %s: an outboxd that is stopped for so long has lost its slot", name, idle), "", "")}
	}
}

// switches are about what must not be off.
func (s *settings) switches() (findings []Finding) {
	for _, w := range []struct{ name, why, mend string }{
		{"fsync", "a crash of the machine loses committed events, and can leave slot and checkpoint apart", "ALTER SYSTEM RESET fsync; SELECT pg_reload_conf()"},
		{"full_page_writes", "a crash of the machine can damage the database", "ALTER SYSTEM RESET full_page_writes; SELECT pg_reload_conf()"},
		{"autovacuum", "each marked or deleted row stays as a dead one, and the table grows without end", "ALTER SYSTEM RESET autovacuum; SELECT pg_reload_conf()"},
		{"track_counts", "autovacuum does not learn that there is work", "ALTER SYSTEM RESET track_counts; SELECT pg_reload_conf()"},
	} {
		if s.values[w.name] == "off" {
			findings = append(findings, found(Warning, w.name, w.name+" is off", w.why, w.mend))
		}
	}
	return findings
}
