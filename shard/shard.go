package shard

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// By says which part of a row decides to which shard it belongs.
type By string

// What can decide.
const (
	Tenant By = "tenant"
	Key    By = "key" // tenant, aggregate type and aggregate id
)

// Most is how many shards there may be: each has a walsender that reads the whole log.
const Most = 16

// Shard is one part of the table. The zero value is a table that is not split.
type Shard struct {
	Count  int // how many shards there are; 0 and 1: the table is not split
	Number int // which of them this is, from 0 on
	By     By
}

// Columns are the columns that can decide, unquoted. An empty name says that the table has no such column.
type Columns struct {
	ID            string
	TenantID      string
	AggregateType string
	AggregateID   string

	DefaultTenant string // of rows whose tenant is NULL; empty: there is none
}

// Split tells whether the table has more than one shard.
func (s Shard) Split() bool { return s.Count > 1 }

// Name is what the shard calls its own that is called base where the table is not split. What decides is in it, as the count is: by the other one
// the shard has other rows.
func (s Shard) Name(base string) string {
	if !s.Split() {
		return base
	}
	by := "t"
	if s.By == Key {
		by = "k"
	}
	return base + "_" + strconv.Itoa(s.Count) + by + "_" + strconv.Itoa(s.Number)
}

// OfOtherLayouts returns the shards of all other layouts. The instances of one of them would deliver the rows of the shard once more.
func (s Shard) OfOtherLayouts() []Shard {
	var others []Shard
	if s.Split() {
		others = append(others, Shard{})
	}
	for count := 2; count <= Most; count++ {
		for _, by := range []By{Tenant, Key} {
			for number := range count {
				if count != s.Count || by != s.By {
					others = append(others, Shard{Count: count, Number: number, By: by})
				}
			}
		}
	}
	return others
}

// Layout names the layout for people, as it is configured.
func (s Shard) Layout() string {
	if !s.Split() {
		return "shards.count: 1"
	}
	return fmt.Sprintf("shards.count: %d, shards.by: %s", s.Count, s.By)
}

// LongestName is the longest that a name of base can become in the shard's layout.
func (s Shard) LongestName(base string) string {
	s.Number = s.Count - 1
	return s.Name(base)
}

// Rows is the SQL condition that a row belongs to the shard; "" when the table is not split. prefix stands before each column's name: "" in a
// publication, "o." in a statement where the table is called o.
func (s Shard) Rows(c Columns, prefix string) (string, error) {
	if !s.Split() {
		return "", nil
	}
	if s.Number < 0 || s.Number >= s.Count || s.Count > Most {
		return "", fmt.Errorf("shard %d of %d: want one of at most %d, counted from 0", s.Number, s.Count, Most)
	}
	values, err := s.values(c, prefix)
	if err != nil {
		return "", err
	}
	const positive = "9223372036854775807" // all bits but the sign
	return fmt.Sprintf("(hash_record_extended(ROW(%s), 0) & %s) %% %d = %d", strings.Join(values, ", "), positive, s.Count, s.Number), nil
}

func (s Shard) values(c Columns, prefix string) ([]string, error) {
	name := func(column string) string { return prefix + `"` + strings.ReplaceAll(column, `"`, `""`) + `"` }
	var values []string
	if c.TenantID != "" {
		tenant := name(c.TenantID)
		if c.DefaultTenant != "" {
			tenant = "COALESCE(" + tenant + ", " + Literal(c.DefaultTenant) + ")"
		}
		values = append(values, tenant)
	}
	switch s.By {
	case Tenant:
		if c.TenantID == "" {
			return nil, errors.New("a table without a column of the tenant has one tenant: it cannot be split by tenant")
		}
	case Key:
		if c.AggregateID == "" {
			return append(values, name(c.ID)), nil
		}
		if c.AggregateType != "" {
			values = append(values, name(c.AggregateType))
		}
		values = append(values, name(c.AggregateID),
			"CASE WHEN "+name(c.AggregateID)+" IS NULL THEN "+name(c.ID)+" ELSE NULL END")
	default:
		return nil, fmt.Errorf("split by %q: want %s or %s", s.By, Tenant, Key)
	}
	return values, nil
}

// Literal returns a text as SQL, whatever standard_conforming_strings says.
func Literal(s string) string {
	quoted := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return " E" + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}
