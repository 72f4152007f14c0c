package queue

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

// Normalize checks p and fills in its default.
func (p Page) Normalize() (Page, error) {
	if p.Limit == 0 {
		p.Limit = DefaultPage
	}

	if err := CheckInt("limit", p.Limit, 1, MaxPage); err != nil {
		return p, err
	}

	if p.Offset < 0 {
		return p, Invalid("offset", "must be 0 or more")
	}

	if p.Offset > 0 && p.Cursor != "" {
		return p, Invalid("cursor", "give offset or cursor, not both")
	}

	return p, nil
}
