package park

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/outboxd/outboxd/event"
)

func table(schema, name string) string { return pgx.Identifier{schema, name}.Sanitize() }

// leaseCTE locks the lease's row where slot and term are still ours. Every statement of a session that writes begins with it.
func leaseCTE(schema string) string {
	return `WITH lease AS MATERIALIZED (SELECT 1 FROM ` + table(schema, "lease") + ` WHERE slot = $1 AND term = $2 FOR SHARE)`
}

// durable makes the statement's commit wait for the disk on a database with synchronous_commit off, and is true: what is parked lets the
// slot move on, and what is done is not published again.
const durable = `CASE current_setting('synchronous_commit')
	WHEN 'off' THEN set_config('synchronous_commit', 'on', true) = 'on' ELSE true END`

// write runs a statement that begins with the lease and answers one row: whether the lease is ours, and a number. Parameters from $3 on are in
// binary format where binary says so, else text.
func write(ctx context.Context, conn *pgx.Conn, lease event.Lease, sql string, values [][]byte, binaryFrom int) (int, error) {
	prepared, err := conn.Prepare(ctx, sql, sql) // known on the connection after the first time
	if err != nil {
		return 0, classify(err)
	}
	all := append([][]byte{[]byte(lease.Slot), fmt.Append(nil, lease.Term)}, values...)
	formats := make([]int16, len(all))
	for i := 2 + binaryFrom; i < len(all); i++ {
		formats[i] = 1
	}
	result := conn.PgConn().ExecPrepared(ctx, prepared.Name, all, formats, []int16{1}).Read()
	if result.Err != nil {
		return 0, classify(result.Err)
	}
	if len(result.Rows) != 1 || len(result.Rows[0][0]) != 1 || len(result.Rows[0][1]) != 8 {
		return 0, fmt.Errorf("the statement answered %d rows instead of one", len(result.Rows))
	}
	if result.Rows[0][0][0] == 0 {
		return 0, event.ErrTermLost
	}
	return int(binary.BigEndian.Uint64(result.Rows[0][1])), nil
}

// answer is the end of each statement of write; changed is the CTE whose rows are counted.
func answer(changed string) string {
	return ` SELECT EXISTS (SELECT FROM lease) AND ` + durable + `, (SELECT count(*) FROM ` + changed + `)`
}
