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
	// UpdateColumns are the columns of the outbox table that outboxd may change with OnSent mark; default status, retry_count,
	// retry_after and error_message.
	UpdateColumns []string
}

func (r Role) withDefaults() Role {
	if r.OnSent == "" {
		r.OnSent = "mark"
	}
	if r.Publication == "" {
		r.Publication = "outboxd"
	}
	if len(r.UpdateColumns) == 0 {
		r.UpdateColumns = []string{"status", "retry_count", "retry_after", "error_message"}
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
	errs := []error{checkName("role", r.Name), checkName("publication", r.Publication)}
	for _, c := range r.UpdateColumns {
		errs = append(errs, checkName("column", c))
	}
	return errors.Join(errs...)
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
