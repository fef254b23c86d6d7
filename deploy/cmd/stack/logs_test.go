package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTheTimeOfALine(t *testing.T) {
	want := time.Date(2026, 11, 30, 19, 2, 3, 456_000_000, time.UTC)
	for _, line := range []string{
		`{"time":"2026-11-30T20:02:03.456+01:00","level":"INFO"`, `{"time":"2026-11-30T19:02:03.456Z"`,
		`time=2026-11-30T19:02:03.456Z level=INFO`, `2026-11-30 19:02:03.456 UTC [12] LOG:  ready`,
		`2026-11-30T19:02:03.456Z [main] INFO`, `[2026-11-30 ` + want.Local().Format("15:04:05") + `,456] INFO`,
	} {
		if at, ok := timeOf([]byte(line)); !ok || !at.Equal(want) {
			t.Errorf("%s: %s", line, at)
		}
	}
	for _, line := range []string{"", "goroutine 1 [running]:", `{"level":"INFO"}`, "2026-13-41 99:02:03 UTC"} {
		if at, ok := timeOf([]byte(line)); ok {
			t.Errorf("%s: %s", line, at)
		}
	}
}

func TestLogsAreMergedByTime(t *testing.T) {
	at := place{dir: t.TempDir()}
	if err := os.MkdirAll(at.logs(), 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(part string, lines ...string) {
		text := strings.Join(lines, "\n") + "\n"
		if err := os.WriteFile(filepath.Join(at.logs(), part+".log"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	line := func(second int, text string) string {
		return fmt.Sprintf(`{"time":"2026-11-30T19:00:%02dZ","msg":"%s"}`, second, text)
	}
	write("orders", line(1, "placed a"), line(3, "panic"), "goroutine a", line(5, "paid a"))
	write("payments", line(2, "settled a"), line(4, "settled b"))
	show := func(s logging) (texts string) {
		var out bytes.Buffer
		if err := (&client{at: at, out: &out}).logs(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out.String()) {
			part, text, _ := strings.Cut(strings.TrimSpace(line), " | ")
			if at := strings.Index(text, `"msg":"`); at >= 0 {
				text = strings.Trim(text[at+7:], `"}`)
			}
			texts += strings.TrimSpace(part)[:1] + " " + text + "; "
		}
		return texts
	}
	for _, test := range []struct {
		logging
		want string
	}{
		{logging{Lines: 9}, "o placed a; p settled a; o panic; o goroutine a; p settled b; o paid a; "},
		{logging{Lines: 1}, "p settled b; o paid a; "},
		{logging{Lines: 1, Find: " a"}, "o placed a; p settled a; o goroutine a; o paid a; "},
		{logging{Lines: 9, Parts: []string{"payments"}}, "p settled a; p settled b; "},
	} {
		if got := show(test.logging); got != test.want {
			t.Errorf("%+v: %s", test.logging, got)
		}
	}
	// Of a long log only the end is read, and no line is cut.
	var long []string
	for i := range 2000 {
		long = append(long, line(i%60, fmt.Sprint(i)))
	}
	write("payments", long...)
	if got := show(logging{Lines: 2, Parts: []string{"payments"}}); got != "p 1998; p 1999; " {
		t.Error(got)
	}
}
