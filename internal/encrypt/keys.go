package encrypt

import (
	"errors"
	"fmt"
	"strings"

	"github.com/fernet/fernet-go"
)

// Keys are Fernet keys: the first encrypts, all of them decrypt.
type Keys []*fernet.Key

// ErrNoKeys says that a list of keys is empty.
var ErrNoKeys = errors.New("there is no key")

// ParseKeys reads keys that are separated by commas or white space: each 32 bytes in URL-safe base64, as Python's Fernet.generate_key() makes
// them. The error names a key by its place in the list and does not show it.
func ParseKeys(list string) (Keys, error) {
	var keys Keys
	for i, text := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || strings.ContainsRune(" \t\r\n", r) }) {
		key, err := fernet.DecodeKey(text)
		if err != nil {
			return nil, fmt.Errorf("key %d of the list is no Fernet key: it must be 32 bytes in URL-safe base64 (44 characters)", i+1)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, ErrNoKeys
	}
	return keys, nil
}
