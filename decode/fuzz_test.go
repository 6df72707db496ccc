package decode_test

import (
	"encoding/binary"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/outboxd/outboxd/decode"
)

// FuzzDecode takes a stream, each message behind its length in two bytes. No stream makes the decoder panic or read
// beyond a message, and what it accepts the parser reads alike.
func FuzzDecode(f *testing.F) {
	for _, stream := range seedStreams(f) {
		f.Add(joined(stream...))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		d, r := newDecoder(), newReference("public", "outbox", decode.DefaultColumns())
		var m decode.Message
		for len(stream) >= 2 {
			n := min(int(binary.BigEndian.Uint16(stream)), len(stream)-2)
			data := append(make([]byte, 0, n), stream[2:2+n]...)[:n:n] // memory of its own: reading beyond it panics
			stream = stream[2+n:]
			if err := d.Decode(data, &m); err != nil {
				return
			}
			if len(data) == insertWithoutColumns && m.Kind == decode.Insert {
				continue // the parser wants a byte more
			}
			if err := r.compare(data, &m); err != nil {
				t.Fatalf("%x: %v", data, err)
			}
		}
	})
}

// insertWithoutColumns is the length of an Insert into a table that has no columns.
const insertWithoutColumns = 8

func joined(messages ...[]byte) []byte {
	var stream []byte
	for _, data := range messages {
		stream = append(binary.BigEndian.AppendUint16(stream, uint16(len(data))), data...)
	}
	return stream
}

// seedStreams are built ones, and the recorded one cut into its transactions, each behind the Relations before it.
func seedStreams(f *testing.F) [][][]byte {
	f.Helper()
	row := seedRow("e1")
	begin, relation := beginMessage(0x100, 7), relationMessage(outboxID, "public", "outbox", seedColumns...)
	streams := [][][]byte{
		{logicalMessage(0, "p", "c"), begin, originMessage("o"), relation, insertMessage(outboxID, row...), commitMessage(0x100, 0x130)},
		{begin, relation, updateWithOldMessage(outboxID, 'O', row, row), deleteMessage(outboxID, 'K', row...), truncateMessage(3, outboxID)},
		{begin, typeMessage("", "mood"), relationMessage(1, "", "x", "a"), insertMessage(1, unchanged{}), insertMessage(1, binaries("b"))},
	}
	text, err := os.ReadFile(recorded)
	if err != nil {
		f.Fatal(err)
	}
	var relations, current [][]byte
	for line := range strings.Lines(string(text)) {
		data, err := hex.DecodeString(strings.TrimSpace(line))
		if err != nil {
			f.Fatal(err)
		}
		switch decode.Kind(data[0]) {
		case decode.Begin:
			current = append([][]byte{data}, relations...)
			continue
		case decode.Relation:
			relations = append(relations, data)
		case decode.Commit:
			streams = append(streams, append(current, data))
		}
		current = append(current, data)
	}
	return streams
}
