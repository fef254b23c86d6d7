package telemetry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func lines(t *testing.T, out *bytes.Buffer) (lines []map[string]any) {
	t.Helper()
	for decoder := json.NewDecoder(out); decoder.More(); {
		var line map[string]any
		if err := decoder.Decode(&line); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	return lines
}

func TestDurationsAreInMilliseconds(t *testing.T) {
	for _, format := range []string{"json", "text"} {
		var out bytes.Buffer
		NewLogger(&out, Config{LogFormat: format}, "orders").Warn("interrupted", "retry_in", 1500*time.Microsecond)
		if text := out.String(); !strings.Contains(text, `"retry_in_ms":1.5`) &&
			!strings.Contains(text, "retry_in_ms=1.5 ") && !strings.HasSuffix(text, "retry_in_ms=1.5\n") {
			t.Errorf("%s: %s", format, text)
		}
	}
}

// Each ID is in the log, and the lines are few.
func TestLogEach(t *testing.T) {
	for _, n := range []int{0, 1, maxLines, maxLines + 1, maxLines + maxIDs, 1000} {
		var out bytes.Buffer
		LogEach(NewLogger(&out, Config{}, "payments"), slog.LevelInfo, "refused", "id", n,
			func(i int) string { return fmt.Sprintf("<%d>", i) }, func(int) []any { return []any{"reason", "no"} })
		text := out.String()
		for i := range n {
			if strings.Count(text, fmt.Sprintf(`"<%d>"`, i)) != 1 {
				t.Errorf("%d is not once in the log of %d", i, n)
			}
		}
		got := lines(t, &out)
		if want := min(n, maxLines) + (max(0, n-maxLines)+maxIDs-1)/maxIDs; len(got) != want {
			t.Errorf("%d things are %d lines, want %d", n, len(got), want)
		}
		if n > 0 && (got[0]["reason"] != "no" || got[0]["id"] != "<0>") {
			t.Errorf("%v", got[0])
		}
	}
	var out bytes.Buffer
	LogEach(NewLogger(&out, Config{LogLevel: slog.LevelWarn}, "payments"), slog.LevelInfo, "refused", "id", 3,
		func(int) string {
			t.Error("asked for what is not logged")
			return ""
		}, nil)
}

// No call that writes a line of the log names a key twice, or one that each line has anyway.
func TestNoKeyIsTwiceInALine(t *testing.T) {
	methods := map[string]int{"Debug": 1, "Info": 1, "Warn": 1, "Error": 1, "DebugContext": 2, "InfoContext": 2,
		"WarnContext":  2,
		"ErrorContext": 2, "Log": 3, "LogAttrs": 3, "With": 0}
	logger := regexp.MustCompile(`(?i)log(ger)?$`)
	calls := 0
	files := token.NewFileSet()
	if err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != "../.." && strings.HasPrefix(entry.Name(), ".") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(node ast.Node) bool {
			call, ok := node.(*ast.CallExpr)
			if !ok {
				return true
			}
			method, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || !logger.MatchString(name(method.X)) {
				return true
			}
			first, ok := methods[method.Sel.Name]
			if !ok || len(call.Args) < first {
				return true
			}
			calls++
			keys := []string{"time", "level", "msg", "service"}
			for _, key := range keysOf(call.Args[first:]) {
				if slices.Contains(keys, key) {
					t.Errorf("%s: the key %s is twice in the line", files.Position(call.Pos()), key)
				}
				keys = append(keys, key)
			}
			return true
		})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if calls < 30 {
		t.Errorf("only %d calls were found", calls)
	}
	for text, want := range map[string]string{
		`f("a", 1, slog.Int("b", 2), slog.GroupAttrs("c", x...), "a", 3)`: "a b c a", `f(x...)`: "", `f("a", "b", y, z)`: "a",
	} {
		expression, err := parser.ParseExpr(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(keysOf(expression.(*ast.CallExpr).Args), " "); got != want {
			t.Errorf("%s has the keys %q, want %q", text, got, want)
		}
	}
}

// name is the last name of an expression such as p.log.
func name(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

// keysOf are the keys among the arguments of a call, as far as they are written down.
func keysOf(args []ast.Expr) (keys []string) {
	literal := func(e ast.Expr) bool {
		lit, ok := e.(*ast.BasicLit)
		if ok && lit.Kind == token.STRING {
			if key, err := strconv.Unquote(lit.Value); err == nil {
				keys = append(keys, key)
			}
			return true
		}
		return false
	}
	for i := 0; i < len(args); i++ {
		if literal(args[i]) {
			i++ // its value
		} else if attr, ok := args[i].(*ast.CallExpr); ok && len(attr.Args) > 0 {
			literal(attr.Args[0])
		}
	}
	return keys
}
