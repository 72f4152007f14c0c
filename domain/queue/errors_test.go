package queue

import (
	"errors"
	"fmt"
	"testing"
)

func TestKinds(t *testing.T) {
	seen := map[Kind]bool{}
	for _, k := range Kinds() {
		if seen[k] || k == "" {
			t.Errorf("kind %q is there twice, or empty", k)
		}
		seen[k] = true
		for _, err := range []error{
			k, &Error{Kind: k}, fmt.Errorf("outer: %w", &Error{Kind: k}), fmt.Errorf("outer: %w", k),
			WithOp("do", &Error{Kind: k}), At("tasks[1]", &Error{Kind: k}),
		} {
			if KindOf(err) != k {
				t.Errorf("the kind of %v is %s, want %s", err, KindOf(err), k)
			}
			for _, other := range Kinds() {
				if errors.Is(err, other) != (other == k) {
					t.Errorf("errors.Is(%v, %v) = %v", err, other, other != k)
				}
			}
		}
	}
	if KindOf(nil) != "" || KindOf(errors.New("foreign")) != KindInternal {
		t.Error("no error has a kind, or a foreign one is not internal")
	}
	outer := &Error{Kind: KindUnavailable, Err: &Error{Kind: KindNotFound}}
	if KindOf(outer) != KindUnavailable {
		t.Error("the kind is not the outermost's")
	}
}

func TestErrorText(t *testing.T) {
	cause := errors.New("no route to host")
	for _, c := range []struct {
		err  *Error
		want string
	}{
		{
			&Error{Op: "create task", Kind: KindNotFound, Subject: "queue mail", Msg: "no such queue; create it first"},
			"create task: queue mail: no such queue; create it first",
		},
		{Invalid("retries", "a number is needed"), "retries: a number is needed"},
		{&Error{Kind: KindLeaseLost, Subject: "task 12"}, "task 12: lease lost"},
		{&Error{Op: "ping", Kind: KindUnavailable, Err: cause}, "ping: no route to host"},
		{&Error{Op: "ping", Kind: KindUnavailable, Msg: "try later", Err: cause}, "ping: try later: no route to host"},
	} {
		if c.err.Error() != c.want {
			t.Errorf("%q, want %q", c.err, c.want)
		}
	}
	if !errors.Is(&Error{Err: cause}, cause) {
		t.Error("the cause is lost")
	}
	if KindLeaseLost.Error() != "pgqueue: lease lost" {
		t.Errorf("the sentinel reads %q", KindLeaseLost)
	}
}

func TestAt(t *testing.T) {
	inner := Invalid("payload", "bad")
	for in, want := range map[error]string{inner: "tasks[3].payload", &Error{Kind: KindNotFound}: "tasks[3]"} {
		e, ok := errors.AsType[*Error](At("tasks[3]", in))
		if !ok || e.Field != want {
			t.Errorf("the field is %q, want %q", e.Field, want)
		}
	}
	if inner.Field != "payload" {
		t.Error("At changed its argument")
	}
	foreign := errors.New("foreign")
	if !errors.Is(At("x", foreign), foreign) || !errors.Is(WithOp("x", foreign), foreign) || WithOp("x", nil) != nil || At("x", nil) != nil {
		t.Error("a foreign error was changed")
	}
	if e, _ := errors.AsType[*Error](WithOp("new", &Error{Op: "old"})); e.Op != "old" {
		t.Error("an operation was replaced")
	}
}
