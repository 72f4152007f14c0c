package queuetest

import (
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// exactJSON returns JSON values that storages tend to change.
func exactJSON() map[string]string {
	return map[string]string{
		"a big integer":      `123456789012345678901234567890`,
		"a long fraction":    `0.1000000000000000000000000000000001`,
		"an exponent":        `1E400`,
		"minus zero":         `-0`,
		"key order":          `{"b":1,"a":2,"c":3}`,
		"a repeated key":     `{"a":1,"a":2}`,
		"white space":        "{ \"a\" :\n\t1 }",
		"an escaped NUL":     `"a\u0000b"`,
		"an escaped letter":  `"\u0061"`,
		"an escaped slash":   `"\/"`,
		"a surrogate pair":   `"\ud83d\ude00"`,
		"an emoji":           `"😀"`,
		"HTML":               `"<a href='x'>&</a>"`,
		"a line separator":   "\"\u2028\"",
		"null":               `null`,
		"false":              `false`,
		"an empty string":    `""`,
		"an empty array":     `[]`,
		"the deepest nest":   strings.Repeat("[", queue.MaxJSONDepth) + strings.Repeat("]", queue.MaxJSONDepth),
		"a replacement rune": `"` + "\uFFFD" + `"`,
	}
}

func testJSON(e *env) {
	e.queue("mail", queue.QueueMeta{Retries: new(5)})
	for name, text := range exactJSON() {
		e.Run("payload, result, error and progress keep "+name, func(t *testing.T) {
			e := e.with(t)
			task := e.create("mail", queue.TaskMeta{Payload: []byte(text)})
			e.equal("payload", string(task.Payload), text)
			held := e.hold("mail")
			e.equal("payload", string(held.Payload), text)
			b := e.beat(queue.Heartbeat{ID: held.ID, Token: held.Lease.Token, Progress: []byte(text)})
			e.ok(b.Err)
			e.equal("progress", string(e.get(task.ID).Progress), text)
			after := e.release(held, queue.OutcomePermanent, text)
			e.equal("result", string(after.Result), text)
			got := e.get(task.ID)
			e.equal("result", string(got.Result), text)
			e.equal("errors", len(got.Errors), 1)
			e.equal("error", string(got.Errors[0].Error), text)
			e.ok(e.one(e.s.RetryTasks, task.ID))
			after = e.release(e.hold("mail"), queue.OutcomeSuccess, text)
			e.equal("result", string(after.Result), text)
			e.equal("result", string(e.get(task.ID).Result), text)
		})
	}
	e.it("a payload and a result of 1 MiB are kept", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		big := `"` + long(queue.DefaultMaxPayloadBytes-2) + `"`
		t := e.create("mail", queue.TaskMeta{Payload: []byte(big)})
		held := e.hold("mail")
		if string(held.Payload) != big {
			e.Fatal("the payload has changed")
		}
		if after := e.release(held, queue.OutcomePermanent, big); string(after.Result) != big {
			e.Fatal("the result has changed")
		}
		got := e.get(t.ID)
		if string(got.Result) != big {
			e.Fatal("the result has changed")
		}
		if len(got.Errors) != 1 || len(got.Errors[0].Error) > queue.MaxErrorBytes {
			e.Fatalf("an error of %d bytes is kept with its attempt, at most %d", len(got.Errors[0].Error), queue.MaxErrorBytes)
		}
	})
}
