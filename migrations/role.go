package migrations

import (
	"errors"
	"fmt"
	"io"
)

// Role says what the running role is to be allowed.
type Role struct {
	Name        string // required
	OnSent      string // mark, delete or keep; default mark
	Publication string // default "outboxd"
	// StatusColumn is the one column of the outbox table that outboxd changes, with OnSent mark; default "status".
	StatusColumn string
}

func (r Role) withDefaults() Role {
	if r.OnSent == "" {
		r.OnSent = "mark"
	}
	if r.Publication == "" {
		r.Publication = "outboxd"
	}
	if r.StatusColumn == "" {
		r.StatusColumn = "status"
	}
	return r
}

func (r Role) validate() error {
	if r.Name == "" {
		return errors.New("no role is named")
	}
	switch r.OnSent {
	case "mark", "delete", "keep":
	default:
		return fmt.Errorf("on_sent %q: want mark, delete or keep", r.OnSent)
	}
	return errors.Join(checkName("role", r.Name), checkName("publication", r.Publication), checkName("column", r.StatusColumn))
}

// WriteRoleSQL writes the script that gives the running role the least rights it can work with, and makes the publication, which
// needs the table's owner. It runs after the script of WriteSQL, or Up, and may be run again.
func WriteRoleSQL(w io.Writer, o Options, r Role) error {
	o, r = o.withDefaults(), r.withDefaults()
	if err := errors.Join(o.validate(), r.validate()); err != nil {
		return fmt.Errorf("write script for role %q: %w", r.Name, err)
	}
	text, err := render("role.sql", struct {
		Options
		Role Role
	}{o, r})
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, text)
	return err
}
