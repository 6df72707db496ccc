package encrypt

import (
	"errors"
	"fmt"

	"github.com/fernet/fernet-go"
	"github.com/tidwall/gjson"
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

// Append appends the payload, a JSON text, to dst with its fields encrypted. A payload that is NULL (nil) appends nothing. The error is
// ErrNotJSON, or that of the system's random numbers.
func (e *Encrypter) Append(dst, payload []byte) ([]byte, error) {
	if payload == nil {
		return dst, nil
	}
	if !gjson.ValidBytes(payload) {
		return dst, ErrNotJSON
	}
	root := gjson.ParseBytes(payload)
	w := walk{encrypter: e, dst: dst, payload: payload}
	w.value(root, e.fields.paths)
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
	copied    int // bytes of payload that are in dst
	err       error
}

// value goes through v, at which the paths lead on.
func (w *walk) value(v gjson.Result, paths [][]string) {
	switch {
	case v.IsObject():
		v.ForEach(func(name, member gjson.Result) bool {
			below, match := w.encrypter.fields.step(paths, name.Str)
			if match && member.Type != gjson.Null {
				w.replace(member)
			} else {
				w.value(member, below)
			}
			return w.err == nil
		})
	case v.IsArray():
		v.ForEach(func(_, element gjson.Result) bool {
			w.value(element, paths)
			return w.err == nil
		})
	}
}

func (w *walk) replace(v gjson.Result) {
	text := v.Raw
	if v.Type == gjson.String {
		text = v.Str
	}
	token, err := fernet.EncryptAndSign([]byte(text), w.encrypter.keys[0])
	if err != nil {
		w.err = fmt.Errorf("encrypt a field: %w", err)
		return
	}
	w.dst = append(w.dst, w.payload[w.copied:v.Index]...)
	w.dst = append(w.dst, '"')
	w.dst = append(w.dst, token...)
	w.dst = append(w.dst, '"')
	w.copied = v.Index + len(v.Raw)
}
