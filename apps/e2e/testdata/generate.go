//go:build ignore

// Command generate writes tasks.ndjson: made-up tasks such as programs have, the same at every run.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
)

const records = 1200

var (
	first   = strings.Fields("Ana Bo Chloé Dmitri Élise Farid Gül Hana Ivo Jörg Kwame Lúcia Mei Nikos Oluwaseun Priya Quentin Rosa Søren Tomás Uma Vera Wei Ximena Yūki Zoë")
	domains = strings.Fields("example.org example.com mail.example.net münchen.example")
	words   = strings.Fields("order invoice reminder receipt parcel report backup thumbnail password welcome survey refund meeting ticket")
	locales = strings.Fields("de-DE en-GB es-MX fr-FR ja-JP pt-BR tr-TR zh-CN")
)

func main() {
	r := rand.New(rand.NewPCG(20260102, 150405))
	pick := func(from []string) string { return from[r.IntN(len(from))] }
	kinds := []func(i int) any{
		func(i int) any {
			name := pick(first)
			return map[string]any{
				"kind": "mail", "to": fmt.Sprintf("%s.%d@%s", strings.ToLower(name), i, pick(domains)), "name": name,
				"template": pick(words), "locale": pick(locales), "vars": map[string]any{"number": 100000 + i, "total": fmt.Sprintf("%d.%02d", r.IntN(900), r.IntN(100))},
			}
		},
		func(i int) any {
			var sizes []int
			for range 1 + r.IntN(4) {
				sizes = append(sizes, 64<<r.IntN(6))
			}
			return map[string]any{"kind": "resize", "source": fmt.Sprintf("uploads/%04x/%d.jpg", r.IntN(1<<16), i), "widths": sizes, "keep_exif": r.IntN(2) == 0}
		},
		func(i int) any {
			return map[string]any{
				"kind": "webhook", "url": fmt.Sprintf("https://hooks.%s/in/%d", pick(domains), i), "method": "POST",
				"body": map[string]any{"event": pick(words) + ".created", "id": json.Number(fmt.Sprintf("9%018d%d", r.Int64N(1e18), i)), "note": nil},
			}
		},
		func(i int) any {
			return map[string]any{"kind": "report", "from": fmt.Sprintf("2026-%02d-01", 1+r.IntN(12)), "groups": []string{pick(words), pick(words)}, "ratio": float64(r.IntN(10000)) / 10000}
		},
		func(i int) any {
			return map[string]any{"kind": "text", "text": strings.Repeat(pick(words)+" \"quoted\" \\ ünïcødé 漢字 🚚\n\t", 1+r.IntN(20)), "seq": i}
		},
		func(i int) any { return []any{"tuple", i, r.IntN(2) == 0, nil, 1e-7} },
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for i := range records {
		if err := enc.Encode(kinds[min(r.IntN(8), len(kinds)-1)](i)); err != nil {
			panic(err)
		}
	}
	if err := os.WriteFile("testdata/tasks.ndjson", b.Bytes(), 0o644); err != nil {
		panic(err)
	}
}
