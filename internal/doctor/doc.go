// Package doctor looks at the whole path of an event, from the server's settings to the brokers, and says what is wrong and how to mend it.
//
// [Examine] makes every check and returns their findings. It guarantees:
//
//   - It changes nothing: its sessions of PostgreSQL are read only, and nothing is published. A topic of Pulsar that is named to it is made by
//     the broker when it is absent, as the first event would do.
//   - It takes no lock that the active instance wants, and counts no large table: statistics and bounded reads are enough.
//   - Each check has a time limit of its own. A server that is down, a missing right and a check that takes too long are findings themselves; the
//     other checks go on.
//
// [Mend] does what findings offer to do by themselves (see [Finding.Fixable]): make a missing publication or add the table to it, apply pending
// steps of outboxd's own schema, make the lean index, drop invalid indexes of outboxd's own. Each is harmless where it was done already, or where
// another process does the same, and none touches a row. What fails is told, and the others are tried.
//
// The rules that make findings of facts are functions without I/O, beside the queries.
package doctor
