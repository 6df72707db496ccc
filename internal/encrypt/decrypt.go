package encrypt

import (
	"encoding/base64"
	"encoding/json"
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
		token := fernet.VerifyAndDecrypt([]byte(single), 0, k)
		if token == nil {
			return nil, errors.New("the token is of none of the keys, or was changed")
		}
		return token, nil
	}
	if !json.Valid(text) {
		return nil, errors.New("it is neither a Fernet token nor JSON")
	}
	d := decryption{keys: k, text: text}
	scan(text, d.visit)
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
	names  [][]byte // of the members that the value stands in, and its own; nil for an element
	err    error
}

func (d *decryption) visit(at, depth int, name []byte) (taken bool) {
	d.names = append(d.names[:depth], name)
	if d.err != nil || d.text[at] != '"' {
		return false
	}
	end := valueEnd(d.text, at)
	token := plain(d.text[at:end])
	if !isToken(string(token)) {
		return false
	}
	held := fernet.VerifyAndDecrypt(token, 0, d.keys)
	if held == nil {
		d.err = fmt.Errorf("the token at %s is of none of the keys, or was changed", d.place())
		return false
	}
	d.dst = append(d.dst, d.text[d.copied:at]...)
	d.dst = gjson.AppendJSONString(d.dst, string(held))
	d.copied = end
	return true
}

// place is where the value stands, written as a path of encrypt.fields.
func (d *decryption) place() string {
	var b strings.Builder
	for _, name := range d.names[1:] {
		if name == nil {
			b.WriteString("[]")
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.Write(plain(name))
	}
	return b.String()
}

// The parts of a token: https://github.com/fernet/spec/blob/master/Spec.md
const (
	tokenVersion  = 0x80
	tokenOverhead = 1 + 8 + 16 + 32 // version, time, IV, HMAC
	tokenBlock    = 16
)

// isToken tells whether the text has the form of a token.
func isToken(text string) bool {
	if !strings.HasPrefix(text, "gAAA") { // the version, and a time before the year 10,000
		return false
	}
	raw, err := base64.URLEncoding.DecodeString(text)
	return err == nil && len(raw) > tokenOverhead && raw[0] == tokenVersion && (len(raw)-tokenOverhead)%tokenBlock == 0
}
