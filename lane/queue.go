package lane

// keptCapacity is how many values an empty queue keeps room for: a peak of one destination must not cost memory for ever.
const keptCapacity = 1024

// queue is a first-in first-out of values that reuses its memory.
type queue[T any] struct {
	items []T
	head  int // items[:head] are gone
}

func (q *queue[T]) len() int { return len(q.items) - q.head }

// at returns the i-th value from the head; valid until the next push or pop.
func (q *queue[T]) at(i int) *T { return &q.items[q.head+i] }

func (q *queue[T]) push(v T) {
	if q.head > 0 && len(q.items) == cap(q.items) && q.head >= len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, v)
}

func (q *queue[T]) pop() T {
	var zero T
	v := q.items[q.head]
	q.items[q.head] = zero
	q.head++
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
		if cap(q.items) > keptCapacity {
			q.items = nil
		}
	}
	return v
}
