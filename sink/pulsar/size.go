package pulsar

import (
	"bytes"

	"github.com/outboxd/outboxd/sink"
)

// The client checks sizes too late for the prefix rule: while it serializes a batch, when what comes behind may be on its way. So they are bounded
// here before anything is sent. The bounds are those of protobuf's encoding:
// https://github.com/apache/pulsar/blob/master/pulsar-common/src/main/proto/PulsarApi.proto
const (
	defaultMaxMessageSize = 5 << 20 // of the broker as it is delivered

	messageOverhead  = 64  // SingleMessageMetadata: payload size, event time, sequence id, tags, its own length
	headerOverhead   = 14  // KeyValue: three tags and lengths
	batchOverhead    = 512 // MessageMetadata of the batch: producer name, times, counts, schema, checksum
	minEntryBytes    = 64 << 10
	compressionSlack = 200 // incompressible data grows by less than one part in so many
)

// headersSize bounds the encoded properties and key.
func headersSize(m *sink.Message) int {
	size := len(m.Key) + headerOverhead
	for _, h := range m.Headers {
		size += len(h.Name) + len(h.Value) + headerOverhead
	}
	return size
}

// splitter cuts a destination's messages into entries.
type splitter struct {
	maxMessage int64 // limit of the configuration, 0 for none
	broker     int   // limit of the broker: nothing that is larger may be sent
	entry      int   // size that an entry of several messages should not exceed; at most broker
	oneKey     bool  // an entry holds messages of one key
}

// next returns how many of the messages make up the next entry and its bound in bytes; 0 when the first can never be sent.
// The properties and key of a batch's first message are in the batch's metadata once more.
func (s splitter) next(messages []*sink.Message) (n, size int) {
	for _, m := range messages {
		headers := headersSize(m)
		one := headers + len(m.Body) + messageOverhead
		if n == 0 {
			one += headers + batchOverhead
		}
		if s.tooLarge(m, headers) || n > 0 && (size+one > s.entry || s.oneKey && !bytes.Equal(m.Key, messages[0].Key)) {
			break
		}
		n++
		size += one
	}
	return n, size
}

// tooLarge tells whether the message cannot be sent even alone.
func (s splitter) tooLarge(m *sink.Message, headers int) bool {
	alone := 2*headers + len(m.Body) + messageOverhead + batchOverhead
	return alone > s.broker || (s.maxMessage > 0 && int64(m.Size()) > s.maxMessage)
}
