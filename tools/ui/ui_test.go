package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/evanw/esbuild/pkg/api"
)

// units is a program over the parts of the page without a document. It answers each line of standard input with one.
const units = `
import { createInterface } from "node:readline";
import { parse, readTree } from "./exact.ts";
import { duration, schedule, span } from "./words.ts";

const write = (text, node) => {
  const key = node.key ? node.key + ":" : "";
  if (!node.children) return key + text.slice(node.from, node.to);
  const [from, to] = node.kind === "object" ? "{}" : "[]";
  return key + from + node.children.map((child) => write(text, child)).join(",") + to;
};
const calls = {
  compact: (text) => write(text, readTree(text)),
  id: (text) => String(parse(text, ["payload"]).id),
  payload: (text) => parse(text, ["payload"]).payload.text,
  prototype: (text) => String(parse(text).polluted) + String({}.polluted),
  duration, schedule, span,
};
for await (const line of createInterface({ input: process.stdin })) {
  const [name, argument] = JSON.parse(line);
  let answer;
  try { answer = calls[name](argument); } catch (error) { answer = error.name; }
  console.log(JSON.stringify(answer));
}
`

// ask bundles units and returns its answers to calls.
func ask(t *testing.T, calls [][2]any) []string {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Log("node is not on the PATH: the parts of the page were not run")
		t.Skip("needs node")
	}
	source, err := filepath.Abs("../../transport/web/ui/src")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "units.mjs")
	result := api.Build(api.BuildOptions{
		Stdin:   &api.StdinOptions{Contents: units, ResolveDir: source, Loader: api.LoaderTS},
		Outfile: program, Write: true, Bundle: true, Format: api.FormatESModule, Platform: api.PlatformNode, Target: api.ES2022,
	})
	if len(result.Errors) > 0 {
		t.Fatal(result.Errors)
	}

	var lines bytes.Buffer
	for _, call := range calls {
		line, err := json.Marshal(call)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&lines, "%s\n", line)
	}
	cmd := exec.CommandContext(t.Context(), node, program)
	cmd.Stdin, cmd.Stderr = &lines, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var answers []string
	for line := range strings.Lines(string(out)) {
		var answer string
		if err := json.Unmarshal([]byte(line), &answer); err != nil {
			t.Fatal(err)
		}
		answers = append(answers, answer)
	}
	if len(answers) != len(calls) {
		t.Fatalf("%d calls have %d answers", len(calls), len(answers))
	}
	return answers
}

// makeJSON returns a random document with everything that readers tend to change.
func makeJSON(r *rand.Rand, depth int) string {
	space := strings.Repeat([]string{"", " ", "\n", "\t\r"}[r.IntN(4)], r.IntN(2))
	scalars := []string{
		"null", "true", "false", "0", "-0", "1.000", "9223372036854775807", "12345678901234567890.5", "1e400", "-1.5E-7", `""`,
		`"a\"b\\"`, `"\u0000\ud83d\ude00"`, `"` + "\u202e é 😀" + `"`, `"<script>"`, `"]}{[,:"`,
	}
	pick := r.IntN(10)
	if depth == 0 || pick < 4 {
		return space + scalars[r.IntN(len(scalars))] + space
	}
	var parts []string
	for range r.IntN(4) {
		part := makeJSON(r, depth-1)
		if pick >= 7 {
			part = space + []string{`"a"`, `"a"`, `"__proto__"`, `"x\"y"`}[r.IntN(4)] + space + ":" + part
		}
		parts = append(parts, part)
	}
	if pick >= 7 {
		return space + "{" + strings.Join(parts, ",") + space + "}"
	}
	return space + "[" + strings.Join(parts, ",") + space + "]"
}

// TestJSONStaysExact compares the reader of the page with the one of Go, on random documents.
func TestJSONStaysExact(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var calls [][2]any
	var want []string
	for range 2000 {
		document := makeJSON(r, 5)
		var compact bytes.Buffer
		if err := json.Compact(&compact, []byte(document)); err != nil {
			t.Fatal(document, err)
		}
		calls, want = append(calls, [2]any{"compact", document}), append(want, compact.String())
	}
	for _, wrong := range []string{"", "{", "[1,]", `{"a"}`, `{"a":1,}`, "1 2", `"a`, "nul", "{1:2}", strings.Repeat("[", 5000)} {
		calls, want = append(calls, [2]any{"compact", wrong}), append(want, "SyntaxError")
	}
	for i, got := range ask(t, calls) {
		if got != want[i] {
			t.Errorf("%q must stay %q, got %q", calls[i][1], want[i], got)
		}
	}
}

// TestPartsOfThePage is a table of the texts that the page makes.
func TestPartsOfThePage(t *testing.T) {
	table := []struct {
		name     string
		argument any
		want     string
	}{
		{"id", `{"id":9223372036854775807}`, "9223372036854775807"},
		{"id", `{"id":12}`, "12"},
		{"payload", `{"payload": {"a" : 1.0} ,"id":1}`, `{"a" : 1.0}`},
		{"prototype", `{"__proto__":{"polluted":true}}`, "undefinedundefined"},
		{"span", 0, "0 s"},
		{"span", 0.42, "0.4 s"},
		{"span", 59.6, "1 m"},
		{"span", 130, "2 m 10 s"},
		{"span", 2460, "41 m"},
		{"span", 3600 * 26, "1 d 2 h"},
		{"span", 86400 * 400, "400 d"},
		{"duration", 5e9, "5s"},
		{"duration", 1.5e9, "1.5s"},
		{"duration", 90 * 60e9, "1h30m"},
		{"duration", 7 * 24 * 3600e9, "7d"},
		{"duration", 100e6, "0.1s"},
		{"duration", 0, "0s"},
		{"schedule", map[string]any{"period": 300e9}, "every 5 m"},
		{"schedule", map[string]any{"cron": "30 3 * * *", "timezone": "Europe/Berlin"}, "every day at 03:30, Europe/Berlin"},
		{"schedule", map[string]any{"cron": "0 8 * * 1", "timezone": "UTC"}, "every Monday at 08:00 UTC"},
		{"schedule", map[string]any{"cron": "*/5 * * * *"}, "every 5 minutes"},
		{"schedule", map[string]any{"cron": "0 9 * * 1-5"}, "Monday to Friday at 09:00 UTC"},
		{"schedule", map[string]any{"cron": "@hourly"}, "every hour"},
		{"schedule", map[string]any{"cron": "1,2 3-5 * 6 *"}, "cron 1,2 3-5 * 6 * UTC"},
	}
	calls := make([][2]any, len(table))
	for i, row := range table {
		calls[i] = [2]any{row.name, row.argument}
	}
	for i, got := range ask(t, calls) {
		if row := table[i]; got != row.want {
			t.Errorf("%s of %v must be %q, got %q", row.name, row.argument, row.want, got)
		}
	}
}
