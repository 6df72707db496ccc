package decode

import (
	"bytes"
	"encoding/binary"
	"errors"
)

var errTruncated = errors.New("the message is cut off")

// reader reads the parts of one message. After the first fault it returns zeros, and err keeps the fault.
type reader struct {
	data []byte
	err  error
}

func (r *reader) take(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.data) {
		r.fail(errTruncated)
		return nil
	}
	taken := r.data[:n:n]
	r.data = r.data[n:]
	return taken
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// text reads a string that ends with a zero byte.
func (r *reader) text() []byte {
	end := bytes.IndexByte(r.data, 0)
	if r.err != nil || end < 0 {
		r.fail(errTruncated)
		return nil
	}
	s := r.data[:end:end]
	r.data = r.data[end+1:]
	return s
}
