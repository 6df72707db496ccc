package wal

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outboxd/outboxd/event"
)

// History is how the server came to its timeline: a standby that is promoted begins another one.
type History struct {
	Timeline int32 // of the server

	file []byte
}

// readHistory asks for the server's history, where it is on another timeline than the one that is known; 0 stands for none. It may be asked before the
// connection streams.
func readHistory(ctx context.Context, conn *pgconn.PgConn, known, timeline int32) (History, error) {
	h := History{Timeline: timeline}
	if known == 0 || known == timeline {
		return h, nil
	}
	answer, err := pglogrepl.TimelineHistory(ctx, conn, timeline)
	if err != nil {
		return h, fmt.Errorf("read the history of timeline %d: %w", timeline, classify(err))
	}
	h.file = answer.Content
	return h, nil
}

// TimelineStarts returns where in the log each timeline behind the given one began, oldest first, on the way to the server's. It knows that for the timeline of
// Config.Timeline and later ones. From there on the log is another than the one that a primary before may have sent: a standby is promoted with
// what it had received, and uses the positions behind that again. It fails with [ErrOtherHistory] when the one timeline did not come of the other.
func (h History) TimelineStarts(after int32) ([]event.LSN, error) {
	if after == h.Timeline {
		return nil, nil
	}
	starts, err := timelineStarts(h.file, after)
	if err != nil {
		return nil, fmt.Errorf("read the history of timeline %d: %w", h.Timeline, err)
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
