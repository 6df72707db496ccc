package redis

import "github.com/outboxd/outboxd/sink"

// Arguments that every command shares; boxed once.
var (
	argOne     any = "1"
	argAny     any = "*"
	argMaxLen  any = "MAXLEN"
	argAbout   any = "~"
	argPayload any = "payload"
	argEvalSHA any = "EVALSHA"
	argEval    any = "EVAL"
	argXAdd    any = "XADD"
	argMulti   any = "MULTI"
	argExec    any = "EXEC"
	argWatch   any = "WATCH"
)

// bytesArg is a byte slice as an argument of a command. A pointer to one fits into an interface without an allocation.
type bytesArg []byte

// MarshalBinary returns the bytes.
func (b *bytesArg) MarshalBinary() ([]byte, error) { return *b, nil }

// appendAdd appends the arguments of the XADD of the stream's n-th message.
func (s *Sink) appendAdd(args []any, st *stream, n int, m *sink.Message) []any {
	args = append(args, argXAdd, &st.name)
	if s.cfg.MaxLen > 0 && n == st.count-1 { // once a batch is enough
		args = append(args, argMaxLen, argAbout, s.maxLen)
	}
	args = append(args, argAny)
	for i := range m.Headers {
		h := &m.Headers[i]
		args = append(args, &h.Name, (*bytesArg)(&h.Value))
	}
	return append(args, argPayload, (*bytesArg)(&m.Body))
}
