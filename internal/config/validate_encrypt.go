package config

import "github.com/outboxd/outboxd/internal/encrypt"

// checkEncrypt leaves no fields where there is no key; a command that publishes nothing keeps them, and masks them in what it prints.
func (l *loader) checkEncrypt(e *Encrypt) {
	if _, err := encrypt.ParseFields(e.Fields); err != nil {
		l.wrong("encrypt.fields", "%v", err)
	}
	if !e.Keys.Empty() && e.KeysFile != "" {
		l.wrong("encrypt.keys_file", "is given beside keys: keep one")
		return
	}
	place := "encrypt.keys"
	if e.KeysFile != "" {
		place = "encrypt.keys_file"
	}
	keys, err := e.Keyring()
	if err != nil {
		l.wrong(place, "%v", err)
	}
	if len(keys) > 0 || err != nil || len(e.Fields) == 0 || l.options.Need != NeedAll {
		return
	}
	if _, given := l.sources["encrypt.fields"]; given {
		l.wrong("encrypt.fields", "is given, but there is no key, and they would be published in clear: set encrypt.keys or encrypt.keys_file")
	}
	e.Fields = Names{} // so that what is in force says that nothing is encrypted
}
