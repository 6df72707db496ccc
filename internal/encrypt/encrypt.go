package encrypt

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/fernet/fernet-go"
)

// ErrNotJSON says that a payload cannot be taken apart.
var ErrNotJSON = errors.New("the payload is no JSON, so that its fields cannot be encrypted: store JSON, or set encrypt.fields to [] to publish payloads in clear")

// Encrypter encrypts the fields of payloads. It is safe for concurrent use.
type Encrypter struct {
	keys   Keys
	fields Fields
}

// New returns an Encrypter for those fields; there must be a key.
func New(keys Keys, fields Fields) (*Encrypter, error) {
	if len(keys) == 0 {
		return nil, ErrNoKeys
	}
	return &Encrypter{keys: keys, fields: fields}, nil
}

// NewMask returns an Encrypter that needs no key and puts asterisks in the place of those fields, for the eyes of people.
func NewMask(fields Fields) *Encrypter { return &Encrypter{fields: fields} }

// Append appends the payload, a JSON text, to dst with its fields encrypted. A payload that is NULL (nil) appends nothing. The error is
// ErrNotJSON, or that of the system's random numbers; dst is then returned as it was.
func (e *Encrypter) Append(dst, payload []byte) ([]byte, error) {
	if payload == nil {
		return dst, nil
	}
	if !json.Valid(payload) { // it bounds the nesting, too
		return dst, ErrNotJSON
	}
	w := walk{encrypter: e, dst: dst, payload: payload}
	scan(payload, w.visit)
	if w.err != nil {
		return dst, w.err
	}
	return append(w.dst, payload[w.copied:]...), nil
}

// walk goes through a payload and copies it, with tokens in the place of what is encrypted.
type walk struct {
	encrypter *Encrypter
	dst       []byte
	payload   []byte
	copied    int          // bytes of payload that are in dst
	open      [][][]string // of each object and array that the value stands in: the paths that lead on from there
	err       error
}

func (w *walk) visit(at, depth int, name []byte) (taken bool) {
	below, match := w.encrypter.fields.paths, false
	if depth > 0 {
		below, match = w.encrypter.fields.step(w.open[depth-1], name)
	}
	if w.err == nil && match && w.payload[at] != 'n' {
		w.replace(at, valueEnd(w.payload, at))
		return true
	}
	w.open = append(w.open[:depth], below)
	return false
}

// replace puts a token in the place of the value that is payload[from:to].
func (w *walk) replace(from, to int) {
	token, err := w.encrypter.token(w.payload[from:to])
	if err != nil {
		w.err = fmt.Errorf("encrypt a field: %w", err)
		return
	}
	w.dst = append(w.dst, w.payload[w.copied:from]...)
	w.dst = append(w.dst, '"')
	w.dst = append(w.dst, token...)
	w.dst = append(w.dst, '"')
	w.copied = to
}

// token returns what stands for the value, which is JSON.
func (e *Encrypter) token(value []byte) ([]byte, error) {
	if len(e.keys) == 0 {
		return []byte("******"), nil
	}
	if value[0] == '"' {
		value = plain(value)
	}
	return fernet.EncryptAndSign(value, e.keys[0])
}
