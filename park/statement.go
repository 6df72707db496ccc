package park

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outboxd/outboxd/lease"
)

// answer is the end of each statement of write; changed is the CTE whose rows are counted.
func answer(changed string) string {
	return ` SELECT EXISTS (SELECT FROM lease) AND ` + lease.Durable + `, (SELECT count(*) FROM ` + changed + `)`
}

// write runs a statement that begins with the lease and ends with answer, and returns the count. Parameters from $3 on are in binary format,
// which for a text is the text itself.
//
// The statement is planned each time: the table can grow from nothing to a million rows before the server's statistics notice, and a plan that
// was made for the empty table would read all of it. A fresh plan knows the table's size.
func write(ctx context.Context, conn *pgx.Conn, held lease.Lease, sql string, values ...[]byte) (int, error) {
	all, formats := withLease(held, values)
	return answered(conn.PgConn().ExecParams(ctx, sql, all, nil, formats, []int16{1}).Read())
}

func withLease(held lease.Lease, values [][]byte) (all [][]byte, formats []int16) {
	all = held.Params(values...)
	formats = make([]int16, len(all))
	for i := 2; i < len(all); i++ {
		formats[i] = 1
	}
	return all, formats
}

func answered(result *pgconn.Result) (int, error) {
	if result.Err != nil {
		return 0, lease.Classify(result.Err)
	}
	if len(result.Rows) != 1 {
		return 0, fmt.Errorf("the statement answered %d rows instead of one", len(result.Rows))
	}
	row := result.Rows[0]
	if row[0][0] == 0 {
		return 0, lease.ErrTermLost
	}
	return int(binary.BigEndian.Uint64(row[1])), nil
}

// query runs a statement that only reads, with parameters in text form, and hands over each row. It is planned each time, as in write.
func query(ctx context.Context, conn *pgx.Conn, sql string, each func(*cells), values ...[]byte) error {
	reader := conn.PgConn().ExecParams(ctx, sql, values, nil, nil, []int16{1})
	for reader.NextRow() {
		each(&cells{values: reader.Values()})
	}
	_, err := reader.Close()
	return lease.Classify(err)
}

// number is the text form of a whole number.
func number[T ~int | ~int64 | ~uint32](n T) []byte { return strconv.AppendInt(nil, int64(n), 10) }
