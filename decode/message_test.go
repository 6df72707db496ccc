package decode_test

import (
	"encoding/binary"

	"github.com/outboxd/outboxd/event"
)

// Builders of messages, byte by byte as the protocol's documentation has them.

const outboxID = 16384 // of the outbox table in built messages

func tag(kind byte) []byte { return []byte{kind} }

func text(b []byte, s string) []byte { return append(append(b, s...), 0) }

func u32(b []byte, n uint32) []byte { return binary.BigEndian.AppendUint32(b, n) }

func u64(b []byte, n uint64) []byte { return binary.BigEndian.AppendUint64(b, n) }

func beginMessage(final event.LSN, xid uint32) []byte {
	return u32(u64(u64(tag('B'), uint64(final)), 1_000_000), xid)
}

func commitMessage(commit, end event.LSN) []byte {
	return u64(u64(u64(append(tag('C'), 0), uint64(commit)), uint64(end)), 1_000_000)
}

func relationMessage(id uint32, schema, table string, columns ...string) []byte {
	b := append(text(text(u32(tag('R'), id), schema), table), 'd')
	b = binary.BigEndian.AppendUint16(b, uint16(len(columns)))
	for _, name := range columns {
		b = u32(u32(text(append(b, 0), name), 25), 0xFFFFFFFF)
	}
	return b
}

// Values of a column that are no text.
type (
	null      struct{}
	unchanged struct{}
	binaries  string
)

func tuple(b []byte, values ...any) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(values)))
	for _, v := range values {
		switch v := v.(type) {
		case null:
			b = append(b, 'n')
		case unchanged:
			b = append(b, 'u')
		case binaries:
			b = append(u32(append(b, 'b'), uint32(len(v))), v...)
		case string:
			b = append(u32(append(b, 't'), uint32(len(v))), v...)
		}
	}
	return b
}

func insertMessage(id uint32, values ...any) []byte {
	return tuple(append(u32(tag('I'), id), 'N'), values...)
}

func deleteMessage(id uint32, old byte, values ...any) []byte {
	return tuple(append(u32(tag('D'), id), old), values...)
}

func updateMessage(id uint32, values ...any) []byte {
	return tuple(append(u32(tag('U'), id), 'N'), values...)
}

func updateWithOldMessage(id uint32, old byte, before, after []any) []byte {
	b := tuple(append(u32(tag('U'), id), old), before...)
	return tuple(append(b, 'N'), after...)
}

func truncateMessage(flags byte, ids ...uint32) []byte {
	b := append(u32(tag('T'), uint32(len(ids))), flags)
	for _, id := range ids {
		b = u32(b, id)
	}
	return b
}

func typeMessage(schema, name string) []byte { return text(text(u32(tag('Y'), 99), schema), name) }

func originMessage(name string) []byte { return text(u64(tag('O'), 77), name) }

func logicalMessage(flags byte, prefix, content string) []byte {
	b := text(u64(append(tag('M'), flags), 55), prefix)
	return append(u32(b, uint32(len(content))), content...)
}
