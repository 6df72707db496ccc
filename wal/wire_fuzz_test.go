package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/outboxd/outboxd/event"
)

// FuzzCopyData: what the stream accepts it reads as the library does, and beyond no message; and what it answers then the library reads as
// three times what is confirmed.
func FuzzCopyData(f *testing.F) {
	u64 := binary.BigEndian.AppendUint64
	f.Add(append(u64(u64([]byte{'k'}, 0x16B3748), 1_000_000), 0), uint64(1))
	f.Add(append(u64(u64([]byte{'k'}, 0x16B3748), 1_000_000), 1), uint64(0x16B3748))
	f.Add(append(u64(u64(u64([]byte{'w'}, 0), 1), 2), 'B'), uint64(0))
	f.Add(u64(u64(u64([]byte{'w'}, 0), 1), 2), uint64(0))
	f.Fuzz(func(t *testing.T, body []byte, confirmed uint64) {
		body = bytes.Clone(body)[:len(body):len(body)]
		s := &Stream{confirmed: event.LSN(confirmed)}
		m, err := s.copyData(body)
		if err == nil {
			sameAsTheLibrary(t, body, m)
		} else if m.Data != nil || errors.Is(err, ErrServerStopping) && body[17] == 0 {
			t.Errorf("%x: %+v beside %v", body, m, err)
		}
		s.encodeStatus(time.Now())
		for i := range 3 {
			if got := binary.BigEndian.Uint64(s.status[6+8*i:]); got != confirmed {
				t.Errorf("position %d of the status is %x, want %x", i, got, confirmed)
			}
		}
	})
}

func sameAsTheLibrary(t *testing.T, body []byte, m Message) {
	t.Helper()
	switch m.Kind {
	case Keepalive:
		want, err := pglogrepl.ParsePrimaryKeepaliveMessage(body[1:])
		if err != nil || m.WALEnd != event.LSN(want.ServerWALEnd) || m.ReplyRequested && !want.ReplyRequested {
			t.Errorf("%x: %+v, the library has %+v, %v", body, m, want, err)
		}
	case Data:
		want, err := pglogrepl.ParseXLogData(body[1:])
		if err != nil || !bytes.Equal(m.Data, want.WALData) || len(m.Data) == 0 {
			t.Errorf("%x: %+v, the library has %+v, %v", body, m, want, err)
		}
	}
}
