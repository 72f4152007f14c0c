package memory

import stdheap "container/heap"

// heap orders items, and records the place of each item, so that any item can be removed.
type heap[T any] struct{ order heapOrder[T] }

// newHeap returns a heap ordered by less. place points at where an item keeps its index + 1; 0 = in no heap.
func newHeap[T any](less func(a, b T) bool, place func(T) *int) heap[T] {
	return heap[T]{heapOrder[T]{less: less, place: place}}
}

func (h *heap[T]) countItems() int { return len(h.order.items) }

// earliest is the least item.
func (h *heap[T]) earliest() (T, bool) {
	if len(h.order.items) == 0 {
		var none T
		return none, false
	}
	return h.order.items[0], true
}

func (h *heap[T]) pushItem(v T) { stdheap.Push(&h.order, v) }

// removeItem takes v out; v must be in h.
func (h *heap[T]) removeItem(v T) { stdheap.Remove(&h.order, *h.order.place(v)-1) }

// heapOrder implements the interface of container/heap.
type heapOrder[T any] struct {
	items []T
	less  func(a, b T) bool
	place func(T) *int
}

// Len returns the number of items.
func (o *heapOrder[T]) Len() int { return len(o.items) }

// Less reports whether the item at i comes before that at j.
func (o *heapOrder[T]) Less(i, j int) bool { return o.less(o.items[i], o.items[j]) }

// Swap exchanges two items and their recorded places.
func (o *heapOrder[T]) Swap(i, j int) {
	o.items[i], o.items[j] = o.items[j], o.items[i]
	*o.place(o.items[i]), *o.place(o.items[j]) = i+1, j+1
}

// Push appends an item.
func (o *heapOrder[T]) Push(v any) {
	o.items = append(o.items, v.(T))
	*o.place(v.(T)) = len(o.items)
}

// Pop takes the last item out.
func (o *heapOrder[T]) Pop() any {
	last := len(o.items) - 1
	v := o.items[last]
	*o.place(v) = 0

	var none T
	o.items[last] = none // the array must not keep the item alive
	o.items = o.items[:last]
	return v
}
