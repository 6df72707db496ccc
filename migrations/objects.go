package migrations

// Object is a table or a sequence of outboxd's own schema.
type Object struct {
	Name     string
	Sequence bool
	Rights   []string // that the running role needs on it, as GRANT names them
}

// Objects returns all tables and sequences that Up makes in outboxd's own schema.
func Objects() []Object {
	return []Object{
		{Name: "lease", Rights: []string{"SELECT", "INSERT", "UPDATE"}}, // locking it FOR SHARE needs UPDATE
		{Name: "checkpoint", Rights: []string{"SELECT", "INSERT", "UPDATE"}},
		{Name: "parked", Rights: []string{"SELECT", "INSERT", "UPDATE", "DELETE"}},
		{Name: "tail_read", Rights: []string{"SELECT", "INSERT", "UPDATE", "DELETE"}},
		{Name: "audit", Rights: []string{"SELECT", "INSERT"}},
		{Name: "replay_number", Sequence: true, Rights: []string{"USAGE"}},
		{Name: "schema_version", Rights: []string{"SELECT"}},
		{Name: "schema_history", Rights: []string{"SELECT"}},
	}
}

// Tables returns the names of the tables among [Objects].
func Tables() []string {
	var names []string
	for _, o := range Objects() {
		if !o.Sequence {
			names = append(names, o.Name)
		}
	}
	return names
}
