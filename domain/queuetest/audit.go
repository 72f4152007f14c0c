package queuetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// AuditStore is a store of the audit under test. Advance moves its clock ahead.
type AuditStore struct {
	access.AuditLog
	Advance func(time.Duration)
}

// TestAudit holds the stores that open returns, each empty, to the contract of [access.AuditLog].
func TestAudit(t *testing.T, open func(t *testing.T) AuditStore) {
	for name, test := range map[string]func(*testing.T, AuditStore){
		"an entry is listed as it was recorded":                           testAuditFields,
		"the store sets the id and the time":                              testAuditTime,
		"pages list each entry once, the newest first":                    testAuditPages,
		"an entry that is recorded between two pages does not shift them": testAuditPagesShift,
		"a page ends at its bytes, and the next one goes on":              testAuditPageBytes,
		"each filter selects its entries, and filters add up":             testAuditFilters,
		"a wrong filter is KindInvalid and names its field":               testAuditFilterRefused,
		"entries leave by age, the oldest first":                          testAuditPrune,
		"no age removes an entry below the least retention":               testAuditPruneFloor,
		"texts that a store cannot keep are cleaned":                      testAuditClean,
		"an ended context answers KindCanceled and records nothing":       testAuditCanceled,
		"entries recorded at once are all listed":                         testAuditRace,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// fullEntry returns an entry with a value in each field that a caller sets.
func fullEntry() access.AuditEntry {
	return access.AuditEntry{
		PrincipalID: "token001", PrincipalName: "operator of mail", PrincipalKind: access.KindJWT,
		Issuer: "https://id.example.com", Subject: "jane",
		Caller: access.Caller{RequestID: "request-1", Via: access.ViaREST, Remote: "192.0.2.1:4711", Reason: "bad deployment"},
		Action: queue.ActionTaskOperate, Operation: "cancel_tasks", Namespace: "default", Queue: "mail", Ticker: "hourly", Task: 7, Token: "token002",
		Filter: "queue=mail status=failed", IDs: 3, DryRun: true, Outcome: access.AuditOK, Calls: 2, Matched: 3, Moved: 1 << 40,
		Changes: []access.AuditChange{{Field: "concurrency", Old: "1", New: "é\"2"}, {Field: "paused", New: "true"}, {Field: "cron", Old: "@daily"}},
	}
}

// recordAudit records an entry.
func recordAudit(t *testing.T, s AuditStore, e access.AuditEntry) {
	t.Helper()
	if err := s.RecordAudit(t.Context(), e); err != nil {
		t.Fatal(err)
	}
}

// listAudit returns all entries that f selects, page by page.
func listAudit(t *testing.T, s AuditStore, f access.AuditFilter) []access.AuditEntry {
	t.Helper()
	var all []access.AuditEntry
	for range 1000 {
		page, err := s.ListAudit(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		if all = append(all, page.Entries...); page.Next == "" {
			return all
		}
		f.Cursor = page.Next
	}
	t.Fatal("the pages have no end")
	return nil
}

// operationsOf returns the operations of entries, which are different in these tests.
func operationsOf(entries []access.AuditEntry) []string {
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Operation
	}
	return names
}

func testAuditFields(t *testing.T, s AuditStore) {
	want := fullEntry()
	recordAudit(t, s, want)
	recordAudit(t, s, access.AuditEntry{Outcome: "unauthenticated"})

	got := listAudit(t, s, access.AuditFilter{})
	if len(got) != 2 {
		t.Fatalf("%d entries, want 2", len(got))
	}
	want.ID, want.At = got[1].ID, got[1].At
	if !reflect.DeepEqual(got[1], want) {
		t.Errorf("got  %+v\nwant %+v", got[1], want)
	}
	bare := access.AuditEntry{ID: got[0].ID, At: got[0].At, Outcome: "unauthenticated", Calls: 1}
	if !reflect.DeepEqual(got[0], bare) {
		t.Errorf("got  %+v\nwant %+v", got[0], bare)
	}

	// A new field of an entry must be stored: this test does not set it yet.
	fields := reflect.ValueOf(fullEntry())
	for i := range fields.NumField() {
		if name := fields.Type().Field(i).Name; fields.Field(i).IsZero() && name != "ID" && name != "At" {
			t.Errorf("this test sets no %s", name)
		}
	}
}

func testAuditTime(t *testing.T, s AuditStore) {
	past := fullEntry()
	past.ID = 99
	past.At = time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	recordAudit(t, s, past)
	s.Advance(time.Hour)
	recordAudit(t, s, past)

	got := listAudit(t, s, access.AuditFilter{})
	if len(got) != 2 || got[0].At.Sub(got[1].At) < time.Hour || got[1].At.Year() < 2025 || got[0].ID <= got[1].ID {
		t.Errorf("got %+v", got)
	}
}

func testAuditPages(t *testing.T, s AuditStore) {
	var want []string
	for i := range 7 {
		name := fmt.Sprint("op", i)
		recordAudit(t, s, access.AuditEntry{Operation: name})
		want = append(want, name)
	}
	slices.Reverse(want)

	for _, limit := range []int{1, 2, 3, 7, 8, 0} {
		if got := operationsOf(listAudit(t, s, access.AuditFilter{Limit: limit})); !slices.Equal(got, want) {
			t.Errorf("in pages of %d: got %v, want %v", limit, got, want)
		}
	}
	page, err := s.ListAudit(t.Context(), access.AuditFilter{Limit: 3})
	if err != nil || len(page.Entries) != 3 {
		t.Errorf("a page of 3 has %d entries, %v", len(page.Entries), err)
	}
}

func testAuditPagesShift(t *testing.T, s AuditStore) {
	for i := range 4 {
		recordAudit(t, s, access.AuditEntry{Operation: fmt.Sprint("op", i)})
	}
	first, err := s.ListAudit(t.Context(), access.AuditFilter{Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	recordAudit(t, s, access.AuditEntry{Operation: "later"})
	rest := operationsOf(listAudit(t, s, access.AuditFilter{Limit: 2, Cursor: first.Next}))
	if want := []string{"op1", "op0"}; !slices.Equal(rest, want) {
		t.Errorf("after the first page: got %v, want %v", rest, want)
	}
}

// testAuditPageBytes records entries with all the changes that one may have, in the largest texts.
func testAuditPageBytes(t *testing.T, s AuditStore) {
	var changes []access.AuditChange
	text := strings.Repeat("x", 10_000) // the store cuts it
	for i := range access.MaxAuditChanges {
		changes = append(changes, access.AuditChange{Field: fmt.Sprint("f", i), Old: text, New: text})
	}
	one := access.AuditEntry{Changes: changes}.Clean()
	size := 0
	for _, c := range one.Changes {
		size += len(c.Field) + len(c.Old) + len(c.New)
	}

	n := queue.MaxPageBytes/size + 2
	var want []string
	for i := range n {
		name := fmt.Sprint("op", i)
		recordAudit(t, s, access.AuditEntry{Operation: name, Changes: changes})
		want = append(want, name)
	}
	slices.Reverse(want)

	page, err := s.ListAudit(t.Context(), access.AuditFilter{Limit: queue.MaxPage})
	if k := len(page.Entries); err != nil || k == 0 || k*size > queue.MaxPageBytes || page.Next == "" {
		t.Errorf("the page has %d entries of %d bytes and goes on at %q, %v", k, size, page.Next, err)
	}
	if got := operationsOf(listAudit(t, s, access.AuditFilter{Limit: queue.MaxPage})); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func testAuditFilters(t *testing.T, s AuditStore) {
	for i, e := range []access.AuditEntry{
		{PrincipalID: "a", Action: queue.ActionTaskOperate, Namespace: "default", Queue: "mail", Outcome: access.AuditOK},
		{PrincipalID: "b", Action: queue.ActionTaskOperate, Namespace: "default", Outcome: string(queue.KindDenied)},
		{PrincipalID: "a", Action: queue.ActionQueueManage, Namespace: "billing", Queue: "mail", Outcome: access.AuditOK},
		{PrincipalID: "b", Action: queue.ActionQueueManage, Namespace: "billing", Outcome: "not_found"},
	} {
		e.Operation = fmt.Sprint("op", i)
		recordAudit(t, s, e)
		s.Advance(time.Hour)
	}
	all := listAudit(t, s, access.AuditFilter{})
	at := func(i int) time.Time { return all[3-i].At }

	for name, c := range map[string]struct {
		filter access.AuditFilter
		want   []string
	}{
		"principal":              {access.AuditFilter{Principal: "a"}, []string{"op2", "op0"}},
		"action":                 {access.AuditFilter{Action: queue.ActionTaskOperate}, []string{"op1", "op0"}},
		"namespace":              {access.AuditFilter{Namespace: "billing"}, []string{"op3", "op2"}},
		"queue":                  {access.AuditFilter{Queue: " MAIL "}, []string{"op2", "op0"}},
		"queue and namespace":    {access.AuditFilter{Queue: "mail", Namespace: "billing"}, []string{"op2"}},
		"outcome":                {access.AuditFilter{Outcome: string(queue.KindDenied)}, []string{"op1"}},
		"since is inclusive":     {access.AuditFilter{Since: at(2)}, []string{"op3", "op2"}},
		"until is exclusive":     {access.AuditFilter{Until: at(2)}, []string{"op1", "op0"}},
		"a range":                {access.AuditFilter{Since: at(1), Until: at(3)}, []string{"op2", "op1"}},
		"principal and outcome":  {access.AuditFilter{Principal: "b", Outcome: "not_found"}, []string{"op3"}},
		"no entry":               {access.AuditFilter{Principal: "c"}, nil},
		"the name is normalized": {access.AuditFilter{Namespace: " Billing "}, []string{"op3", "op2"}},
	} {
		for _, limit := range []int{1, 100} {
			c.filter.Limit = limit
			if got := operationsOf(listAudit(t, s, c.filter)); !slices.Equal(got, c.want) {
				t.Errorf("%s in pages of %d: got %v, want %v", name, limit, got, c.want)
			}
		}
	}
}

func testAuditFilterRefused(t *testing.T, s AuditStore) {
	recordAudit(t, s, fullEntry())
	for field, f := range map[string]access.AuditFilter{
		"limit":     {Limit: queue.MaxPage + 1},
		"cursor":    {Cursor: "x-y"},
		"action":    {Action: "task.fly"},
		"outcome":   {Outcome: "fine"},
		"namespace": {Namespace: "no name"},
		"principal": {Principal: "a\x00"},
		"queue":     {Queue: "no name"},
		"since":     {Since: time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)},
		"until":     {Until: time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		_, err := s.ListAudit(t.Context(), f)
		fault, ok := errors.AsType[*queue.Error](err)
		if !ok || fault.Kind != queue.KindInvalid || fault.Field != field {
			t.Errorf("%s: got %v", field, err)
		}
	}
}

func testAuditPrune(t *testing.T, s AuditStore) {
	for i := range 3 {
		recordAudit(t, s, access.AuditEntry{Operation: fmt.Sprint("op", i)})
		s.Advance(20 * 24 * time.Hour)
	}
	// The entries are 60, 40 and 20 days old.
	removed, more, err := s.PruneAudit(t.Context(), 50*24*time.Hour)
	if err != nil || removed != 1 || more {
		t.Errorf("removed %d, more %v, %v", removed, more, err)
	}
	if got, want := operationsOf(listAudit(t, s, access.AuditFilter{})), []string{"op2", "op1"}; !slices.Equal(got, want) {
		t.Errorf("left are %v, want %v", got, want)
	}
	if removed, more, err = s.PruneAudit(t.Context(), 50*24*time.Hour); err != nil || removed != 0 || more {
		t.Errorf("again: removed %d, more %v, %v", removed, more, err)
	}
}

func testAuditPruneFloor(t *testing.T, s AuditStore) {
	recordAudit(t, s, access.AuditEntry{Operation: "recent"})
	s.Advance(access.MinAuditRetention - time.Hour)
	for _, age := range []time.Duration{-time.Hour, 0, time.Nanosecond, access.MinAuditRetention} {
		if removed, _, err := s.PruneAudit(t.Context(), age); err != nil || removed != 0 {
			t.Errorf("age %v: removed %d, %v", age, removed, err)
		}
	}
	s.Advance(2 * time.Hour)
	if removed, _, err := s.PruneAudit(t.Context(), 0); err != nil || removed != 1 {
		t.Errorf("beyond the least retention: removed %d, %v", removed, err)
	}
}

func testAuditClean(t *testing.T, s AuditStore) {
	secret := access.NewSecret()
	recordAudit(t, s, access.AuditEntry{
		PrincipalName: "a\x00b\xff", Queue: strings.Repeat("é", access.MaxAuditText), Caller: access.Caller{Reason: "see " + secret.Reveal() + "\n"},
		Changes: slices.Repeat([]access.AuditChange{{Field: "cron", Old: secret.Reveal(), New: "a\x00" + strings.Repeat("é", access.MaxAuditText)}}, access.MaxAuditChanges+1),
	})
	got := listAudit(t, s, access.AuditFilter{})[0]
	if got.PrincipalName != "a b\uFFFD" || got.Queue != strings.Repeat("é", access.MaxAuditText/2) {
		t.Errorf("got the name %q and %d bytes of the queue", got.PrincipalName, len(got.Queue))
	}
	want := access.AuditChange{Field: "cron", Old: secret.String(), New: "a " + strings.Repeat("é", access.MaxAuditText/2-1)}
	if len(got.Changes) != access.MaxAuditChanges || got.Changes[0] != want {
		t.Errorf("got %d changes, the first %+v", len(got.Changes), got.Changes[0])
	}
	if want := "see " + secret.String() + " "; got.Reason != want {
		t.Errorf("got the reason %q, want %q", got.Reason, want)
	}
}

func testAuditCanceled(t *testing.T, s AuditStore) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.RecordAudit(ended, fullEntry()); !errors.Is(err, queue.ErrCanceled) {
		t.Errorf("a record gives %v", err)
	}
	if _, err := s.ListAudit(ended, access.AuditFilter{}); !errors.Is(err, queue.ErrCanceled) {
		t.Errorf("a list gives %v", err)
	}
	if _, _, err := s.PruneAudit(ended, 0); !errors.Is(err, queue.ErrCanceled) {
		t.Errorf("a prune gives %v", err)
	}
	if got := listAudit(t, s, access.AuditFilter{}); len(got) != 0 {
		t.Errorf("recorded %v", got)
	}
}

func testAuditRace(t *testing.T, s AuditStore) {
	const recorders = 8
	var all sync.WaitGroup
	for i := range recorders {
		all.Go(func() {
			if err := s.RecordAudit(t.Context(), access.AuditEntry{Operation: fmt.Sprint("op", i)}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := listAudit(t, s, access.AuditFilter{Limit: 3}); len(got) != recorders {
		t.Errorf("%d entries, want %d", len(got), recorders)
	}
}
