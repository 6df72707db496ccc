package wal

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pglogrepl"

	"github.com/outboxd/outboxd/event"
)

// TimelineStarts returns where in the log each timeline behind the given one began, oldest first, on the way to the server's timeline
// current ([Stream.Timeline]). From there on the log is another than the one that a primary before may have sent: a standby is promoted with
// what it had received, and uses the positions behind that again. It fails with [ErrOtherHistory] when the one timeline did not come of the other.
//
// It asks over a replication connection of its own. ctx bounds all of it.
func TimelineStarts(ctx context.Context, cfg Config, after, current int32) ([]event.LSN, error) {
	conn, err := connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	history, err := pglogrepl.TimelineHistory(ctx, conn, current)
	if err = errors.Join(err, closeConn(conn)); err != nil {
		return nil, fmt.Errorf("read the history of timeline %d: %w", current, classify(err))
	}
	starts, err := timelineStarts(history.Content, after)
	if err != nil {
		return nil, fmt.Errorf("read the history of timeline %d: %w", current, err)
	}
	return starts, nil
}

// timelineStarts reads a history file. Each line is a timeline and where its successor began, the oldest first.
// Source: readTimeLineHistory in PostgreSQL's src/backend/access/transam/timeline.c
func timelineStarts(history []byte, after int32) ([]event.LSN, error) {
	var starts []event.LSN
	lines := bufio.NewScanner(bytes.NewReader(history))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || fields[0][0] == '#' {
			continue
		}
		timeline, err := strconv.ParseInt(fields[0], 10, 32)
		if err != nil || len(fields) < 2 {
			return nil, fmt.Errorf("line %q: want a timeline and a log position", lines.Text())
		}
		start, err := event.ParseLSN(fields[1])
		if err != nil {
			return nil, fmt.Errorf("line %q: %w", lines.Text(), err)
		}
		if int32(timeline) == after || len(starts) > 0 {
			starts = append(starts, start)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(starts) == 0 {
		return nil, fmt.Errorf("%w: it did not come of timeline %d", ErrOtherHistory, after)
	}
	return starts, nil
}
