package queue

// Tally counts tasks of one queue that one step of a Store moved alike.
type Tally struct {
	Namespace string
	Queue     string
	// Was and Is are the statuses before and after; Was is "" of a task that came into being, Is of one that left.
	Was, Is Status
	N       int
}

// Tallies count the moved tasks of a step by queue, each (queue, was, is) once.
type Tallies []Tally

// Add counts n more tasks of a queue.
func (ts *Tallies) Add(namespace, name string, was, is Status, n int) {
	for i := range *ts {
		t := &(*ts)[i]
		if t.Queue == name && t.Namespace == namespace && t.Was == was && t.Is == is {
			t.N += n
			return
		}
	}
	if n > 0 {
		*ts = append(*ts, Tally{Namespace: namespace, Queue: name, Was: was, Is: is, N: n})
	}
}

// Merge adds all of more.
func (ts *Tallies) Merge(more Tallies) {
	for _, t := range more {
		ts.Add(t.Namespace, t.Queue, t.Was, t.Is, t.N)
	}
}
