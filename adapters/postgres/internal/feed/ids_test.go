package feed

import (
	"slices"
	"testing"
)

func TestRunsOfIDsComeBackAsTheyWere(t *testing.T) {
	const most = 200
	many := make([]int64, 0, 1000)
	for i := range int64(1000) {
		many = append(many, 3*i+1)
	}
	for _, ids := range [][]int64{nil, {7}, {1, 2, 3}, {5, 6, 9, 11, 12, 13}, {9, 8, 7}, {4, 4}, {2, 3, 3, 4}, many} {
		var back []int64
		for left := ids; len(left) > 0; {
			packed, n := PackIDs(left, most)
			if n == 0 || len(packed) > most {
				t.Fatalf("%d ids into %d numbers", n, len(packed))
			}
			back = append(back, unpackIDs(packed)...)
			left = left[n:]
		}
		if !slices.Equal(back, ids) {
			t.Errorf("%v came back as %v", ids, back)
		}
	}
	if packed, n := PackIDs([]int64{1, 2, 3, 4, 5}, most); n != 5 || !slices.Equal(packed, []int64{1, -5}) {
		t.Errorf("a run takes %v", packed)
	}
}
