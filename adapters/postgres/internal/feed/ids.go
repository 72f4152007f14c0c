package feed

import "github.com/pgqueue/pgqueue/domain/queue"

// kinds are the event kinds; the code of a kind is its index plus 1.
var kinds = queue.EventKinds()

var codes = func() map[queue.EventKind]int16 {
	m := map[queue.EventKind]int16{}
	for i, kind := range kinds {
		m[kind] = int16(i + 1)
	}
	return m
}()

// CodeOf returns the code of an event kind in the column kind of an event row.
func CodeOf(kind queue.EventKind) int16 { return codes[kind] }

// PackIDs encodes the first n of ids and returns n. All ids are above 0. A run of consecutive ids becomes its
// first id and the negative of its last id. The result has at most most numbers.
func PackIDs(ids []int64, most int) (packed []int64, n int) {
	for n < len(ids) && len(packed)+2 <= most {
		first := ids[n]
		for n++; n < len(ids) && ids[n] == ids[n-1]+1; n++ {
		}
		packed = append(packed, first)
		if last := ids[n-1]; last > first {
			packed = append(packed, -last)
		}
	}
	return packed, n
}

// unpackIDs decodes the result of PackIDs.
func unpackIDs(packed []int64) []int64 {
	ids := make([]int64, 0, len(packed))
	for _, v := range packed {
		if v > 0 {
			ids = append(ids, v)
			continue
		}
		for id := ids[len(ids)-1] + 1; id <= -v; id++ {
			ids = append(ids, id)
		}
	}
	return ids
}
