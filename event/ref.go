package event

// Ref names one delivery of an event at a destination: the event's id, and which replay of it. The first delivery is replay 0.
type Ref struct {
	ID     string
	Replay int
}
