package rules_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/printer"
	"go/token"
	"go/types"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const limitsPage = "docs/limits.md"

var (
	// A limit of time or size is a constant with such a name, or with such a value.
	limitOfTime = regexp.MustCompile(`(?i)timeout|limit|patience|deadline|silence|drain|grace|wait$`)
	limitOfSize = regexp.MustCompile(`(?i)bytes|output|response|frame|line$|dump|stderr|body`)
	isDuration  = regexp.MustCompile(`\btime\.(Nanosecond|Microsecond|Millisecond|Second|Minute|Hour)\b`)
	isShift     = regexp.MustCompile(`^[0-9_]+ << [0-9]+$`)
	isNumber    = regexp.MustCompile(`^[0-9_]+$`)
	limitRow    = regexp.MustCompile("(?m)^\\| (.*) \\| (.*) \\| `([a-z]+\\.\\w+)` \\|$")
)

// otherLimits are those that end no call and refuse no message of a caller, each with its reason. Names may have a *.
var otherLimits = []struct{ why, names string }{
	{
		"it bounds one field, and the field's own error names it",
		"queue.Max*Bytes queue.MaxHeadersBytes schedule.Max*Bytes access.MaxRequestIDBytes worker.maxPanicBytes worker.maxStackBytes " +
			"worker.MaxLogLineBytes postgres.maxFaultBytes",
	},
	{
		"it divides work: the rest goes with the next batch, page, notification or piece",
		"batch.DefaultMaxBytes manager.maxBatchBytes worker.maxReleaseBytes worker.maxAheadBytes queue.MaxStepTickBytes " +
			"connectclient.maxMergedBytes connectserver.maxMergedBytes transfer.maxBatchBytes sqltx.maxStatementBytes " +
			"feed.maxNotifyBytes postgres.copyBytes postgres.maxLetterBytes " +
			"postgres.partMax pace.Bytes *.paceBytes restserver.burstSize connectserver.minCompressBytes",
	},
	{
		"memory that is kept for reuse or thrown away, or an estimate; nothing is refused",
		"*.maxPooledBytes manager.maxTokens restserver.maxDiscard httprun.maxDrain restclient.trustedBytes run.garbageRoom run.leastHeap " +
			"program.maxDump embedded.maxLogBytes queue.taskFrame access.rowFrame connectserver.maxBeginning",
	},
	{
		"output of a handler: the rest is left out, and the task says so",
		"execrun.DefaultMaxOutput execrun.maxStderr httprun.DefaultMaxResponse httprun.maxFailureBody",
	},
	{
		"a look of the program at itself, its database or its handler, outside all calls",
		"*.probeTimeout *.checkTimeout *.CheckTimeout *.healthTimeout telemetry.DefaultStatsTimeout top.lookTimeout cmdutil.completionTimeout " +
			"program.* doctor.listenTimeout feed.proofTimeout feed.proofSendTimeout feed.listenConnectTimeout feed.notifyTimeout",
	},
	{
		"the start and the stop of a program or a worker",
		"embedded.* run.DefaultStopTimeout run.closeTimeout export.FlushTimeout worker.DefaultDrain worker.DefaultGrace worker.flushTimeout " +
			"connectclient.closeTimeout connectclient.dialTimeout schedule.SkipGrace",
	},
	{
		"work of an operator or of the background in steps, each with its own end",
		"doctor.* migrate.* *.rollbackTimeout manager.TickTimeout cells.openTimeout cells.stepTimeout",
	},
	{"a worker's wait for tasks, which it repeats", "worker.DefaultWait worker.emptyWait"},
	{"the time after which a job ends with the error of a service that fails", "worker.failPatience"},
	{
		"the part of an error that decides about its fingerprint, or is shown; nothing is refused",
		"queue.maxSampleBytes queue.maxCachedErrorBytes general.*",
	},
	{"a cache, which forgets beyond it, and its estimate", "schema.DefaultCacheBytes jsonschema.partBytes jsonschema.instructionBytes"},
	{"a data key, which is replaced beyond it, and the sizes of ciphers", "seal.DefaultKeyUses seal.DataKeyBytes seal.nonceBytes"},
	{"a buffer, which is not kept beyond it", "seal.maxPooled"},
	{"a part of the count of steps, which refuses as the page says", "jsonschema.bytesPerStep"},
}

// TestLimitsAreKnown holds every constant that limits time or size to a row of the page of limits, with its value, or to a
// reason here. So a new limit is set beside the others, and those inside and outside of it are looked at.
func TestLimitsAreKnown(t *testing.T) {
	const root = "../../.."
	page, err := os.ReadFile(filepath.Join(root, limitsPage))
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, row := range limitRow.FindAllStringSubmatch(string(page), -1) {
		documented[row[3]] = row[2]
	}

	limits := map[string]constant.Value{}
	durations := map[string]bool{}
	for _, folder := range []string{"domain", "adapters", "transport", "apps"} {
		readLimits(t, filepath.Join(root, folder), documented, limits, durations)
	}
	for name := range documented {
		if limits[name] == nil {
			t.Errorf("%s has %s, the code does not", limitsPage, name)
		}
	}
	if len(limits) < 80 {
		t.Fatalf("%d limits are not all", len(limits))
	}

	used := map[string]bool{}
	for name, value := range limits {
		text, ok := documented[name]
		if ok {
			if want := limitText(value, durations[name]); text != want {
				t.Errorf("%s: %s says %s, the code %s", name, limitsPage, text, want)
			}
			continue
		}

		known := false
		for _, other := range otherLimits {
			for pattern := range strings.FieldsSeq(other.names) {
				if matches, _ := path.Match(pattern, name); matches {
					used[pattern], known = true, true
				}
			}
		}
		if !known {
			t.Errorf("%s: add it to %s, or to otherLimits with the reason why it ends no call and refuses no message", name, limitsPage)
		}
	}

	for _, other := range otherLimits {
		for pattern := range strings.FieldsSeq(other.names) {
			if !used[pattern] {
				t.Errorf("%s: no limit has that name; remove it from otherLimits", pattern)
			}
		}
	}
	for _, c := range []struct{ inner, outer string }{
		{"connectserver.DefaultAliveEvery", "connectclient.streamPatience"},
		{"connectclient.aliveEvery", "connectclient.streamPatience"},
		{"queue.BulkStep", "worker.callTimeout"},
		{"postgres.DefaultCallTimeout", "worker.callTimeout"},
		{"queue.HandBackTimeout", "connectserver.acceptedTimeout"},
		{"queue.MaxPageBytes", "restclient.maxFrame"},
		{"queue.DefaultMaxPayloadBytes", "transfer.maxLine"},
		{"restserver.DefaultMaxBatchBytes", "restclient.DefaultMaxAnswerBytes"},
	} {
		if limits[c.inner] == nil || limits[c.outer] == nil || constant.Compare(limits[c.inner], token.GTR, limits[c.outer]) {
			t.Errorf("%s is %v, %s %v: the inner limit must not exceed the outer", c.inner, limits[c.inner], c.outer, limits[c.outer])
		}
	}
}

// readLimits adds the limits that the packages below folder declare, and all documented ones, by package and name.
func readLimits(t *testing.T, folder string, documented map[string]string, limits map[string]constant.Value, durations map[string]bool) {
	t.Helper()
	skipped := []string{"gen", "testdata", "postgrestest", "queuetest", "e2e", "memory", "bench"}
	err := filepath.WalkDir(folder, func(file string, d os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains(skipped, d.Name()):
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go"):
			return nil
		}

		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, declaration := range tree.Decls {
			group, ok := declaration.(*ast.GenDecl)
			if !ok || group.Tok != token.CONST && group.Tok != token.VAR {
				continue
			}
			for _, spec := range group.Specs {
				values := spec.(*ast.ValueSpec)
				for i, value := range values.Values {
					name := tree.Name.Name + "." + values.Names[i].Name
					if v, isTime := evaluateLimit(values.Names[i].Name, documented[name] != "", value); v != nil {
						limits[name] = v
						durations[name] = isTime
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// evaluateLimit returns the value of a limit; nil when the expression or the name is that of something else.
func evaluateLimit(name string, isDocumented bool, expression ast.Expr) (v constant.Value, isTime bool) {
	var text bytes.Buffer
	if err := printer.Fprint(&text, token.NewFileSet(), expression); err != nil || text.Len() > 60 {
		return nil, false
	}

	source := text.String()
	isTime = isDuration.MatchString(source)
	switch {
	case isDocumented, isTime && limitOfTime.MatchString(name):
	case isShift.MatchString(source), isNumber.MatchString(source) && limitOfSize.MatchString(name):
	default:
		return nil, false
	}

	for unit, d := range map[string]time.Duration{
		"Nanosecond": 1, "Microsecond": time.Microsecond, "Millisecond": time.Millisecond,
		"Second": time.Second, "Minute": time.Minute, "Hour": time.Hour,
	} {
		source = strings.ReplaceAll(source, "time."+unit, fmt.Sprint(int64(d)))
	}
	tv, err := types.Eval(token.NewFileSet(), nil, token.NoPos, source)
	if err != nil {
		return nil, false
	}
	return tv.Value, isTime
}

// limitText is a limit as the page says it.
func limitText(v constant.Value, isTime bool) string {
	n, _ := constant.Int64Val(v)
	switch {
	case isTime:
		return fmt.Sprint(time.Duration(n))
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprint(n)
}
