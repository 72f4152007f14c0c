package memory

// heap is a binary heap that records the place of each item, so that any item can be removed.
type heap[T any] struct {
	items []T
	less  func(a, b T) bool
	// place points at where an item keeps its index + 1; 0 = in no heap.
	place func(T) *int
}

func newHeap[T any](less func(a, b T) bool, place func(T) *int) heap[T] {
	return heap[T]{less: less, place: place}
}

func (h *heap[T]) countItems() int { return len(h.items) }

// earliest is the least item.
func (h *heap[T]) earliest() (T, bool) {
	if len(h.items) == 0 {
		var none T
		return none, false
	}
	return h.items[0], true
}

func (h *heap[T]) pushItem(v T) {
	h.items = append(h.items, v)
	*h.place(v) = len(h.items)
	h.siftUp(len(h.items) - 1)
}

// removeItem takes v out; v must be in h.
func (h *heap[T]) removeItem(v T) {
	i, last := *h.place(v)-1, len(h.items)-1
	h.swapItems(i, last)
	var none T
	h.items[last] = none
	h.items = h.items[:last]
	*h.place(v) = 0
	if i < last && !h.siftDown(i) {
		h.siftUp(i)
	}
}

func (h *heap[T]) siftUp(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h.less(h.items[i], h.items[parent]) {
			return
		}
		h.swapItems(i, parent)
		i = parent
	}
}

func (h *heap[T]) siftDown(i int) bool {
	start := i
	for {
		child := 2*i + 1
		if child >= len(h.items) {
			break
		}
		if right := child + 1; right < len(h.items) && h.less(h.items[right], h.items[child]) {
			child = right
		}
		if !h.less(h.items[child], h.items[i]) {
			break
		}
		h.swapItems(i, child)
		i = child
	}

	return i > start
}

func (h *heap[T]) swapItems(i, j int) {
	if i == j {
		return
	}
	h.items[i], h.items[j] = h.items[j], h.items[i]
	*h.place(h.items[i]), *h.place(h.items[j]) = i+1, j+1
}
