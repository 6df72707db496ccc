// Package event says what an event, a key and a position are.
//
// It depends on the standard library only, holds no state and does no I/O; every other package
// of outboxd speaks in its terms.
//
// # Memory
//
// An [Event] does not own its bytes: its fields are slices of the buffer that the row was received
// into. Whoever keeps a field longer than the buffer copies it.
package event
