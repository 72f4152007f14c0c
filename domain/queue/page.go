package queue

import (
	"cmp"
	"fmt"
	"slices"
)

// Page says which rows of a list to return.
type Page struct {
	// Offset skips rows; it excludes Cursor.
	Offset int
	// Limit is the most rows; 0 = DefaultPage.
	Limit int
	// Cursor is the Next of the page before; "" starts at the beginning. It is opaque.
	Cursor string
}

// Cut is the end of what a page holds of items, which may be more than it has room for: those of its limit, and of
// MaxPageBytes unless the first alone has more. bytes is about what an item takes.
func (p Page) Cut(n int, bytes func(i int) int) int {
	total := 0
	for i := range min(n, p.Limit) {
		if total += bytes(i); total > MaxPageBytes && i > 0 {
			return i
		}
	}
	return min(n, p.Limit)
}

// Skip returns the sorted names from the beginning of p. The cursor of a list of names is the last name of the page
// before. p is normalized.
func (p Page) Skip(names []string) []string {
	if p.Cursor == "" {
		return names[min(p.Offset, len(names)):]
	}

	at, found := slices.BinarySearch(names, p.Cursor)
	if found {
		at++
	}
	return names[at:]
}

// Names returns the part of the sorted names that p selects, and the cursor of the next page, "" at the end. Without a
// limit it is all the rest.
func (p Page) Names(names []string) (part []string, next string, err error) {
	normal, err := p.Normalize()
	if err != nil {
		return nil, "", err
	}

	part = normal.Skip(names)
	if p.Limit > 0 && len(part) > p.Limit {
		part = part[:p.Limit]
		next = part[p.Limit-1]
	}
	return part, next, nil
}

// Normalize checks p and fills in its default.
func (p Page) Normalize() (Page, error) {
	p.Limit = cmp.Or(p.Limit, DefaultPage)
	if err := CheckInt("limit", p.Limit, 1, MaxPage); err != nil {
		return p, err
	}

	if p.Offset < 0 {
		return p, Invalid("offset", fmt.Sprintf("must be 0 or more, got %d", p.Offset))
	}

	if p.Offset > 0 && p.Cursor != "" {
		return p, Invalid("cursor", "must not come with offset; leave one out")
	}

	return p, nil
}
