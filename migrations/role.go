package migrations

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Role says what the running role is to be allowed.
type Role struct {
	Name        string // required
	OnSent      string // mark, delete or keep; default mark
	Publication string // default "outboxd"
	Rows        string // the publication's row filter, for a shard of the table; "": none
	// The columns of the outbox table that outboxd changes, with OnSent mark and delete, where the table has them; where none is named, they are
	// "status", "retry_count", "retry_after" and "error_message".
	StatusColumn       string
	RetryCountColumn   string
	RetryAfterColumn   string
	ErrorMessageColumn string
}

func (r Role) withDefaults() Role {
	r.OnSent = cmp.Or(r.OnSent, "mark")
	r.Publication = cmp.Or(r.Publication, "outboxd")
	if len(r.Columns()) == 0 {
		r.StatusColumn, r.RetryCountColumn, r.RetryAfterColumn, r.ErrorMessageColumn = "status", "retry_count", "retry_after", "error_message"
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
	if strings.Contains(r.Rows, bodyQuote) {
		errs = append(errs, fmt.Errorf("row filter %q holds %s", r.Rows, bodyQuote))
	}
	for _, column := range r.Columns() {
		errs = append(errs, checkName("column", column))
	}
	return errors.Join(errs...)
}

// Columns are those of the outbox table that outboxd changes.
func (r Role) Columns() []string {
	all := []string{r.StatusColumn, r.RetryCountColumn, r.RetryAfterColumn, r.ErrorMessageColumn}
	return slices.DeleteFunc(all, func(name string) bool { return name == "" })
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
		Role    Role
		Objects []Object
	}{o, r, Objects()})
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, text)
	return err
}
