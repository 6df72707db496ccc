package encrypt

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/fernet/fernet-go"
	"github.com/tidwall/gjson"
)

// ErrNoToken says that nothing in a text is a token.
var ErrNoToken = errors.New("nothing in it is a Fernet token")

// Decrypt returns a text with its tokens decrypted: a single token becomes what it holds, and in a JSON text each string that is a token a
// string of what it holds. All tokens must be of one of the keys, or nothing is returned and the error says which is not. ErrNoToken: there is none.
func (k Keys) Decrypt(text []byte) ([]byte, error) {
	if single := strings.TrimSpace(string(text)); isToken(single) {
		plain := fernet.VerifyAndDecrypt([]byte(single), 0, k)
		if plain == nil {
			return nil, errors.New("the token is of none of the keys, or was changed")
		}
		return plain, nil
	}
	if !gjson.ValidBytes(text) {
		return nil, errors.New("it is neither a Fernet token nor JSON")
	}
	d := decryption{keys: k, text: text}
	d.value(gjson.ParseBytes(text), "")
	switch {
	case d.err != nil:
		return nil, d.err
	case d.copied == 0:
		return nil, ErrNoToken
	}
	return append(d.dst, text[d.copied:]...), nil
}

// decryption goes through a JSON text and copies it, with what they hold in the place of tokens.
type decryption struct {
	keys   Keys
	dst    []byte
	text   []byte
	copied int
	err    error
}

// value goes through v, which stands at the path.
func (d *decryption) value(v gjson.Result, path string) {
	switch {
	case v.Type == gjson.String && isToken(v.Str):
		plain := fernet.VerifyAndDecrypt([]byte(v.Str), 0, d.keys)
		if plain == nil {
			d.err = fmt.Errorf("the token at %s is of none of the keys, or was changed", strings.TrimPrefix(path, "."))
			return
		}
		d.dst = append(d.dst, d.text[d.copied:v.Index]...)
		d.dst = gjson.AppendJSONString(d.dst, string(plain))
		d.copied = v.Index + len(v.Raw)
	case v.IsObject():
		v.ForEach(func(name, member gjson.Result) bool {
			d.value(member, path+"."+name.Str)
			return d.err == nil
		})
	case v.IsArray():
		i := 0
		v.ForEach(func(_, element gjson.Result) bool {
			d.value(element, fmt.Sprintf("%s.%d", path, i))
			i++
			return d.err == nil
		})
	}
}

// The parts of a token: https://github.com/fernet/spec/blob/master/Spec.md
const (
	tokenVersion  = 0x80
	tokenOverhead = 1 + 8 + 16 + 32 // version, time, IV, HMAC
	tokenBlock    = 16
)

// isToken tells whether the text has the form of a token.
func isToken(text string) bool {
	raw, err := base64.URLEncoding.DecodeString(text)
	return err == nil && len(raw) > tokenOverhead && raw[0] == tokenVersion && (len(raw)-tokenOverhead)%tokenBlock == 0
}
