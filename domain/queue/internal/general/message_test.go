package general_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/pgqueue/pgqueue/domain/queue/internal/general"
)

// errorMessages are messages as programs give them, of Go, PostgreSQL, MySQL, Java, Python, Node and others, with their
// general form. A change of a row needs another version of the fingerprints.
var errorMessages = []struct{ message, general string }{
	{
		`no route to host`,
		`no route to host`,
	},
	{
		`no answer within 30s`,
		`no answer within <duration>`,
	},
	{
		`user 17 is unknown`,
		`user <n> is unknown`,
	},
	{
		`dial tcp 10.0.0.7:5432: connect: connection refused`,
		`dial tcp <addr>: connect: connection refused`,
	},
	{
		`dial tcp [fe80::1%eth0]:80: i/o timeout`,
		`dial tcp <addr>: i/o timeout`,
	},
	{
		`dial tcp [::1]:5432: connect: connection refused`,
		`dial tcp <addr>: connect: connection refused`,
	},
	{
		`dial tcp: lookup db-7.internal.example.com on 10.0.0.2:53: no such host`,
		`dial tcp: lookup db-<n>.internal.example.com on <addr>: no such host`,
	},
	{
		`Get "https://api.example.com/v1/user/17?q=a": context deadline exceeded (Client.Timeout exceeded while awaiting headers)`,
		`Get "<text>": context deadline exceeded (Client.Timeout exceeded while awaiting headers)`,
	},
	{
		`GET https://api.example.com/v1/user/17?q=a: 500`,
		`GET <url>: <n>`,
	},
	{
		`read tcp 10.1.2.3:45678->10.0.0.7:443: read: connection reset by peer`,
		`read tcp <addr>-><addr>: read: connection reset by peer`,
	},
	{
		`x509: certificate has expired or is not yet valid: current time 2026-11-29T20:09:57Z is after 2026-11-01T00:00:00Z`,
		`x<n>: certificate has expired or is not yet valid: current time <time> is after <time>`,
	},
	{
		`json: cannot unmarshal string into Go struct field Mail.to of type []string`,
		`json: cannot unmarshal string into Go struct field Mail.to of type []string`,
	},
	{
		`invalid character 'x' looking for beginning of value`,
		`invalid character '<text>' looking for beginning of value`,
	},
	{
		`strconv.Atoi: parsing "12a": invalid syntax`,
		`strconv.Atoi: parsing "<text>": invalid syntax`,
	},
	{
		`open /var/lib/app/data-17.json: no such file or directory`,
		`open <path>: no such file or directory`,
	},
	{
		"panic: runtime error: index out of range [5] with length 3\n\ngoroutine 17 [running]:\nmain.f(0xc000012345)\n\t/app/main.go:42 +0x1d",
		`panic: runtime error: index out of range [<n>] with length <n>`,
	},
	{
		`runtime error: invalid memory address or nil pointer dereference`,
		`runtime error: invalid memory address or nil pointer dereference`,
	},
	{
		`exec: "ffmpeg": executable file not found in $PATH`,
		`exec: "ffmpeg": executable file not found in $PATH`,
	},
	{
		`exit status 137`,
		`exit status 137`,
	},
	{
		`signal: killed`,
		`signal: killed`,
	},
	{
		`fork/exec /usr/bin/convert: resource temporarily unavailable`,
		`fork/exec <path>: resource temporarily unavailable`,
	},
	{
		`context deadline exceeded`,
		`context deadline exceeded`,
	},
	{
		`http2: server sent GOAWAY and closed the connection; LastStreamID=1999, ErrCode=NO_ERROR, debug=""`,
		`http<n>: server sent GOAWAY and closed the connection; LastStreamID=<n>, ErrCode=NO_ERROR, debug="<text>"`,
	},
	{
		`rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing: dial tcp 10.0.0.1:50051: connect: connection refused"`,
		`rpc error: code = Unavailable desc = connection error: desc = "<text>"`,
	},
	{
		`ERROR: duplicate key value violates unique constraint "users_email_key" (SQLSTATE 23505)`,
		`ERROR: duplicate key value violates unique constraint "users_email_key" (SQLSTATE 23505)`,
	},
	{
		`ERROR: relation "tasks_p20260101" does not exist (SQLSTATE 42P01)`,
		`ERROR: relation "tasks_p<n>" does not exist (SQLSTATE 42P01)`,
	},
	{
		`ERROR: invalid input syntax for type integer: "abc" (SQLSTATE 22P02)`,
		`ERROR: invalid input syntax for type integer: "<text>" (SQLSTATE 22P02)`,
	},
	{
		`ERROR: null value in column "email" of relation "users" violates not-null constraint (SQLSTATE 23502)`,
		`ERROR: null value in column "email" of relation "users" violates not-null constraint (SQLSTATE 23502)`,
	},
	{
		`ERROR: deadlock detected (SQLSTATE 40P01): Process 4711 waits for ShareLock on transaction 815; blocked by process 4712.`,
		`ERROR: deadlock detected (SQLSTATE 40P01): Process <n> waits for ShareLock on transaction <n>; blocked by process <n>.`,
	},
	{
		`ERROR: could not serialize access due to concurrent update (SQLSTATE 40001)`,
		`ERROR: could not serialize access due to concurrent update (SQLSTATE 40001)`,
	},
	{
		`FATAL: remaining connection slots are reserved for roles with the SUPERUSER attribute (SQLSTATE 53300)`,
		`FATAL: remaining connection slots are reserved for roles with the SUPERUSER attribute (SQLSTATE 53300)`,
	},
	{
		`FATAL: password authentication failed for user "app" (SQLSTATE 28P01)`,
		`FATAL: password authentication failed for user "<text>" (SQLSTATE 28P01)`,
	},
	{
		`Key (email)=(ann@example.com) already exists.`,
		`Key (email)=(<mail>) already exists.`,
	},
	{
		`ERROR: canceling statement due to statement timeout (SQLSTATE 57014)`,
		`ERROR: canceling statement due to statement timeout (SQLSTATE 57014)`,
	},
	{
		`ERROR 1062 (23000): Duplicate entry '17-ann@example.com' for key 'users.email_idx'`,
		`ERROR <n> (<n>): Duplicate entry '<text>' for key 'users.email_idx'`,
	},
	{
		"java.lang.NullPointerException: Cannot invoke \"com.acme.User.getName()\" because \"user\" is null\n\tat com.acme.Mailer.send(Mailer.java:42)\n\tat java.base/java.lang.Thread.run(Thread.java:840)",
		`java.lang.NullPointerException: Cannot invoke "<text>" because "<text>" is null`,
	},
	{
		"java.lang.RuntimeException: job 17 failed\n\tat com.acme.A.b(A.java:1)\nCaused by: java.sql.SQLException: Connection refused (host=10.0.0.1)\n\tat com.acme.C.d(C.java:7)\n\t... 23 more",
		`java.lang.RuntimeException: job <n> failed Caused by: java.sql.SQLException: Connection refused (host=<addr>)`,
	},
	{
		`java.net.SocketTimeoutException: Read timed out after 30000 ms`,
		`java.net.SocketTimeoutException: Read timed out after <n> ms`,
	},
	{
		`java.lang.OutOfMemoryError: Java heap space`,
		`java.lang.OutOfMemoryError: Java heap space`,
	},
	{
		"org.postgresql.util.PSQLException: ERROR: duplicate key value violates unique constraint \"orders_pkey\"\n  Detail: Key (id)=(4711) already exists.",
		`org.postgresql.util.PSQLException: ERROR: duplicate key value violates unique constraint "orders_pkey" Detail: Key (id)=(<n>) already exists.`,
	},
	{
		`java.lang.IllegalArgumentException: No enum constant com.acme.Color.GREEN17`,
		`java.lang.IllegalArgumentException: No enum constant com.acme.Color.GREEN<n>`,
	},
	{
		"com.fasterxml.jackson.databind.exc.MismatchedInputException: Cannot deserialize value of type `int` from String \"abc\": not a valid `int` value at [Source: (String)\"{\"a\":1}\"; line: 1, column: 5]",
		"com.fasterxml.jackson.databind.exc.MismatchedInputException: Cannot deserialize value of type `int` from String \"<text>\": not a valid `<text>` value at [Source: (String)\"<text>\"a\"<text>\"; line: <n>, column: <n>]",
	},
	{
		"Traceback (most recent call last):\n  File \"/app/worker.py\", line 12, in run\n    handle(task)\n  File \"/app/h.py\", line 3, in handle\n    return int(x)\nValueError: invalid literal for int() with base 10: 'abc'",
		`ValueError: invalid literal for int() with base <n>: '<text>'`,
	},
	{
		"Traceback (most recent call last):\n  File \"/a/b.py\", line 1, in f\nKeyError: 'x'\n\nDuring handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n  File \"/a/b.py\", line 5, in g\nRuntimeError: lost 17",
		`RuntimeError: lost <n>`,
	},
	{
		`AttributeError: 'NoneType' object has no attribute 'email'`,
		`AttributeError: 'NoneType' object has no attribute 'email'`,
	},
	{
		`KeyError: 'user_17'`,
		`KeyError: '<text>'`,
	},
	{
		`NameError: name 'foo' is not defined`,
		`NameError: name 'foo' is not defined`,
	},
	{
		`ModuleNotFoundError: No module named 'requests'`,
		`ModuleNotFoundError: No module named 'requests'`,
	},
	{
		`TypeError: unsupported operand type(s) for +: 'int' and 'str'`,
		`TypeError: unsupported operand type(s) for +: '<text>' and '<text>'`,
	},
	{
		`FileNotFoundError: [Errno 2] No such file or directory: '/tmp/x17.csv'`,
		`FileNotFoundError: [Errno 2] No such file or directory: '<text>'`,
	},
	{
		`ConnectionRefusedError: [Errno 111] Connection refused`,
		`ConnectionRefusedError: [Errno 111] Connection refused`,
	},
	{
		`requests.exceptions.ConnectionError: HTTPSConnectionPool(host='api.example.com', port=443): Max retries exceeded with url: /v1/x/17 (Caused by NewConnectionError('<urllib3.connection.HTTPSConnection object at 0x7f3a1b2c3d4e>: Failed to establish a new connection: [Errno -2] Name or service not known'))`,
		`requests.exceptions.ConnectionError: HTTPSConnectionPool(host='<text>', port=<n>): Max retries exceeded with url: <path> (Caused by NewConnectionError('<text>'))`,
	},
	{
		`requests.exceptions.HTTPError: 404 Client Error: Not Found for url: https://api.example.com/v1/17`,
		`requests.exceptions.HTTPError: <n> Client Error: Not Found for url: <url>`,
	},
	{
		"psycopg.errors.UniqueViolation: duplicate key value violates unique constraint \"users_pkey\"\nDETAIL:  Key (id)=(17) already exists.",
		`psycopg.errors.UniqueViolation: duplicate key value violates unique constraint "users_pkey" DETAIL: Key (id)=(<n>) already exists.`,
	},
	{
		`UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff in position 17: invalid start byte`,
		`UnicodeDecodeError: '<text>' codec can't decode byte <hex> in position <n>: invalid start byte`,
	},
	{
		`json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)`,
		`json.decoder.JSONDecodeError: Expecting value: line <n> column <n> (char <n>)`,
	},
	{
		`TypeError: Cannot read properties of undefined (reading 'email')`,
		`TypeError: Cannot read properties of undefined (reading 'email')`,
	},
	{
		"TypeError: Cannot read properties of undefined (reading 'email')\n    at handle (/app/h.js:17:5)\n    at process.processTicksAndRejections (node:internal/process/task_queues:95:5)",
		`TypeError: Cannot read properties of undefined (reading 'email')`,
	},
	{
		`Error: connect ECONNREFUSED 127.0.0.1:5432`,
		`Error: connect ECONNREFUSED <addr>`,
	},
	{
		`Error: getaddrinfo ENOTFOUND db.example.com`,
		`Error: getaddrinfo ENOTFOUND db.example.com`,
	},
	{
		`Error: Request failed with status code 503`,
		`Error: Request failed with status code 503`,
	},
	{
		`AxiosError: timeout of 5000ms exceeded`,
		`AxiosError: timeout of <duration> exceeded`,
	},
	{
		`SyntaxError: Unexpected token < in JSON at position 0`,
		`SyntaxError: Unexpected token < in JSON at position <n>`,
	},
	{
		`SyntaxError: Unexpected token 'x', "x17" is not valid JSON`,
		`SyntaxError: Unexpected token '<text>', "<text>" is not valid JSON`,
	},
	{
		`ENOENT: no such file or directory, open './data/17.json'`,
		`ENOENT: no such file or directory, open '<text>'`,
	},
	{
		`RangeError: Maximum call stack size exceeded`,
		`RangeError: Maximum call stack size exceeded`,
	},
	{
		`Error: Cannot find module '@acme/mail'`,
		`Error: Cannot find module '<text>'`,
	},
	{
		`MongoServerError: E11000 duplicate key error collection: app.users index: email_1 dup key: { email: "ann@example.com" }`,
		`MongoServerError: E<n> duplicate key error collection: app.users index: email_<n> dup key: { email: "<text>" }`,
	},
	{
		`ReplyError: MOVED 3999 127.0.0.1:6381`,
		`ReplyError: MOVED <n> <addr>`,
	},
	{
		`HTTP/1.1 503 Service Unavailable`,
		`HTTP/1.1 503 Service Unavailable`,
	},
	{
		`HTTP 429: Too Many Requests; retry after 17 seconds`,
		`HTTP 429: Too Many Requests; retry after <n> seconds`,
	},
	{
		`unexpected status: 502 Bad Gateway`,
		`unexpected status: 502 Bad Gateway`,
	},
	{
		`curl: (28) Operation timed out after 30001 milliseconds with 0 bytes received`,
		`curl: (<n>) Operation timed out after <n> milliseconds with <n> bytes received`,
	},
	{
		`wget: server returned error: HTTP/1.1 404 Not Found`,
		`wget: server returned error: HTTP/1.1 404 Not Found`,
	},
	{
		`token expired at Mon, 02 Jan 2006 15:04:05 GMT`,
		`token expired at <time>`,
	},
	{
		`mtime Mon Jan  2 15:04:05 UTC 2006 is in the future`,
		`mtime <time> is in the future`,
	},
	{
		`since 2026-01-02 15:04:05.123+02, until 2026/01/02`,
		`since <time>, until <time>`,
	},
	{
		`at 12:00:00`,
		`at <time>`,
	},
	{
		`mailbox of ann.b+c@example.co.uk is full`,
		`mailbox of <mail> is full`,
	},
	{
		`order 0b5c2f0e-9b1d-4c53-8a4e-7f7f7f7f7f7f is closed`,
		`order <uuid> is closed`,
	},
	{
		`commit 9fceb02d0ae598e95dc970b74767f19372d61af8 is gone`,
		`commit <hex> is gone`,
	},
	{
		`object cus_9s6XKzkNRiz8i3 is gone`,
		`object <id> is gone`,
	},
	{
		`pod api-7d9f8b6c5-x2k4q evicted`,
		`pod <id> evicted`,
	},
	{
		`open C:\data\x.txt failed`,
		`open <path> failed`,
	},
	{
		`share \\srv01\x\y.txt is gone`,
		`share <path> is gone`,
	},
	{
		`took 1.5e3 of 1,000.25 units`,
		`took <n> of <n> units`,
	},
	{
		`missing ids: 1, 2, 3 and 'a', 'b', 'c'`,
		`missing ids: <n> and '<text>'`,
	},
	{
		`can't reach it, won't try it again for 2h30m`,
		`can't reach it, won't try it again for <duration>`,
	},
	{
		`{"a":17,"b":[1,2],"name":"x"}`,
		`{"a":<n>,"b":[<n>],"name":"<text>"}`,
	},
	{
		`S3: NoSuchKey: The specified key does not exist. status code: 404, request id: 4442587FB7D0A2F9, host id: abc`,
		`S<n>: NoSuchKey: The specified key does not exist. status code: 404, request id: <hex>, host id: abc`,
	},
	{
		`std::bad_alloc`,
		`std::bad_alloc`,
	},
	{
		`main.go:42: oops`,
		`main.go:<n>: oops`,
	},
	{
		`disk full: 16.5GB of 17GB used (97%)`,
		`disk full: <n>GB of <n>GB used (<n>%)`,
	},
	{
		`worker-7 lost connection to node12`,
		`worker-<n> lost connection to node<n>`,
	},
	{
		`Zugriff verweigert für Nutzer „max“`,
		`Zugriff verweigert für Nutzer „<text>“`,
	},
	{
		`and/or text/html github.com/acme/x.F`,
		`and/or text/html github.com/acme/x.F`,
	},
	{
		`PHP Fatal error:  Uncaught PDOException: SQLSTATE[HY000] [2002] Connection refused in /var/www/a.php:17`,
		`PHP Fatal error: Uncaught PDOException: SQLSTATE[HY000] [<n>] Connection refused in <path>:<n>`,
	},
	{
		"undefined method `foo' for nil:NilClass",
		"undefined method `foo' for nil:NilClass",
	},
	{
		`ActiveRecord::RecordNotFound: Couldn't find User with 'id'=17`,
		`ActiveRecord::RecordNotFound: Couldn't find User with '<text>'=<n>`,
	},
	{
		"thread 'main' panicked at src/main.rs:17:5:\nindex out of bounds: the len is 3 but the index is 5",
		`thread '<text>' panicked at src/main.rs:<n>:<n>: index out of bounds: the len is <n> but the index is <n>`,
	},
	{
		"System.NullReferenceException: Object reference not set to an instance of an object.\n   at Acme.Mail.Send() in C:\\src\\Mail.cs:line 17",
		`System.NullReferenceException: Object reference not set to an instance of an object.`,
	},
}

func TestMessage(t *testing.T) {
	for _, c := range errorMessages {
		if got := general.Message(c.message); got != c.general {
			t.Errorf("%q:\ngot  %q\nwant %q", c.message, got, c.general)
		}
		if again := general.Message(c.general); again != c.general {
			t.Errorf("%q: a second pass gives %q", c.general, again)
		}
	}
}

// TestMessageIsBounded: hostile texts of a megabyte cost about as much as short ones.
func TestMessageIsBounded(t *testing.T) {
	for _, part := range []string{
		`"`, `'`, `\"`, "`", "“", "1", "1 ", "a", "-", "<", "<n>", "<n>, ", ":", "::", "1:", "a.", "a@", "/", "/a", "./", `\\a`, "[1:", "(", "\n", " \n",
		"\n at x", "0x", "f0", "a0", "1-", "e1", "é", "\xff", "http://", "12:00:00 ", "2026-01-01", "Mon ", "Mon, 1 Jan ", "{\"a\":", " ", "\x00", "HTTP/1",
		"status ", "Traceback (most recent call last):\n", "\n\ngoroutine 1", "'a' object", "column 'a1' ",
	} {
		text := strings.Repeat(part, 1+(1<<20)/len(part))
		start := time.Now()
		got := general.Message(text)
		if took := time.Since(start); took > time.Second { // a few milliseconds; machines of tests are slow
			t.Errorf("%q: %v", part, took)
		}
		if len(got) > 512 || general.Message(got) != got {
			t.Errorf("%q: got %q, and then %q", part, got, general.Message(got))
		}
	}
}

// FuzzMessage: the general form is one line of bounded length, a second pass changes nothing, and other digits in data
// do not change it.
func FuzzMessage(f *testing.F) {
	for _, c := range errorMessages {
		f.Add(c.message)
	}
	for _, seed := range []string{"", "\xff\x00", strings.Repeat("1 ", 600), "“a” „b“ «c»", `"a\"b" "c`, "7'x'", "a<n>b1", "<n>/a/b", "1-2->3.4.5.6:7"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := general.Message(text)
		if len(got) > 512 || !utf8.ValidString(got) || strings.ContainsAny(got, "\n\t\r") {
			t.Fatalf("%q: got %q", text, got)
		}
		if again := general.Message(got); again != got {
			t.Fatalf("%q: got %q, and then %q", text, got, again)
		}

		// Behind these words numbers are codes, which stay.
		lower := strings.ToLower(text)
		for _, word := range []string{"status", "code", "http", "errno", "signal", "sqlstate"} {
			if strings.Contains(lower, word) {
				return
			}
		}
		if other := general.Message(shiftDigits(text)); other != got {
			t.Fatalf("%q and with other digits: %q and %q", text, got, other)
		}
	})
}

// shiftDigits replaces each digit by the next one, byte by byte: the text may be no valid UTF-8.
func shiftDigits(text string) string {
	b := []byte(text)
	for i, c := range b {
		if c >= '0' && c <= '9' {
			b[i] = '0' + (c-'0'+1)%10
		}
	}
	return string(b)
}

func BenchmarkMessage(b *testing.B) {
	long := strings.Repeat(`lookup "x" on 10.0.0.2:53 at 2026-01-02T15:04:05Z: no such host, `, 1<<20/64)
	for _, c := range []struct{ name, message string }{
		{"plain", "context deadline exceeded"},
		{"address", "dial tcp 10.0.0.7:5432: connect: connection refused"},
		{"PostgreSQL", `ERROR: duplicate key value violates unique constraint "users_email_key" (SQLSTATE 23505)`},
		{"stack", "panic: oops 17\n\ngoroutine 17 [running]:\n" + strings.Repeat("main.f(0xc000012345)\n\t/app/main.go:42 +0x1d\n", 100)},
		{"1 MiB", long},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				general.Message(c.message)
			}
		})
	}
}
