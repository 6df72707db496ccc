package wal

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
)

// checkSynchronous is [NotSynchronous] as one of the checks.
func (v *verifier) checkSynchronous(ctx context.Context) error {
	err := NotSynchronous(ctx, v.conn)
	if failed, ok := errors.AsType[*CheckError](err); ok {
		v.problems = append(v.problems, failed)
		return nil
	}
	return err
}

// NotSynchronous makes sure that the server does not take the WAL sender of a session for a synchronous standby, of whatever priority or in a quorum: every commit
// could wait for it then, as it does not confirm what it has not seen committed, and it holds no copy of the data. The server knows a standby by its
// application_name alone, which conn has in common with that WAL sender. The error is a [CheckError], or says that the server could not be asked.
// Source: SyncRepGetStandbyPriority in PostgreSQL's src/backend/replication/syncrep.c
func NotSynchronous(ctx context.Context, conn *pgx.Conn) error {
	var own, setting string
	err := conn.QueryRow(ctx, `SELECT current_setting('application_name'),
		CASE WHEN pg_is_in_recovery() THEN '' ELSE current_setting('synchronous_standby_names') END`).Scan(&own, &setting)
	if err != nil {
		return fmt.Errorf("read synchronous_standby_names: %w", err)
	}
	const mend = "name the standbys, and no others: ALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 (standby1, standby2)'; SELECT pg_reload_conf()"
	for _, name := range standbyNames(setting) {
		switch {
		case name == "*":
			return &CheckError{
				CheckSynchronous, fmt.Sprintf("synchronous_standby_names is %q, which takes outboxd for a synchronous standby: commits would wait for it, and it for them", setting),
				mend,
			}
		case strings.EqualFold(name, own):
			return &CheckError{
				CheckSynchronous, fmt.Sprintf("synchronous_standby_names is %q, and %q is outboxd's own name, not that of a standby", setting, own),
				mend + ", or give outboxd another name (database.application_name)",
			}
		}
	}
	return nil
}

// standbyWords are the words of synchronous_standby_names: names, some in double quotes, and what stands before the list.
// Source: https://www.postgresql.org/docs/current/runtime-config-replication.html#GUC-SYNCHRONOUS-STANDBY-NAMES
var standbyWords = regexp.MustCompile(`"(?:[^"]|"")*"|[^\s,()"]+|\(`)

// standbyNames returns the names in a valid synchronous_standby_names.
func standbyNames(setting string) (names []string) {
	for _, word := range standbyWords.FindAllString(setting, -1) {
		switch word[0] {
		case '(':
			names = nil // what stands before is how many of them, and by which method
		case '"':
			names = append(names, strings.ReplaceAll(word[1:len(word)-1], `""`, `"`))
		default:
			names = append(names, word)
		}
	}
	return names
}
