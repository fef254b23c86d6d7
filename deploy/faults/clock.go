package faults

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/altyn-pay/altyn/deploy/stack"
)

// clockVariable names the file by which a program's clock is wrong; see clockSource.
const clockVariable = "ALTYN_FAULTS_CLOCK"

// Go's programs ask the kernel for the time without the C library, so nothing that is preloaded can deceive them, and
// Linux has namespaces for other clocks only. So the programs are built with a package time whose Now adds what a file
// says. Only the time of day moves, as when a clock is set; how much time has passed is told by another clock.
const (
	clockNow     = "\tsec, nsec, mono := runtimeNow()\n"
	clockWrong   = clockNow + "\tsec += atomic.LoadInt64(wrongBy)\n"
	clockImports = "import (\n"
	clockSource  = `
// wrongBy is how many seconds this process's clock is wrong by.
var wrongBy = func() *int64 {
	name, found := syscall.Getenv("` + clockVariable + `")
	if !found {
		return new(int64)
	}
	file, err := syscall.Open(name, syscall.O_RDONLY, 0)
	if err != nil {
		panic("` + clockVariable + `: " + err.Error())
	}
	bytes, err := syscall.Mmap(file, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic("` + clockVariable + `: " + err.Error())
	}
	return (*int64)(unsafe.Pointer(&bytes[0]))
}()
`
)

// Build compiles the services' programs into a folder, as stack.Build, with clocks that can be wrong. For the first
// time that takes minutes, since all packages are compiled anew.
func Build(ctx context.Context, dir string) (err error) {
	work, err := os.MkdirTemp("", "altyn-clock-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	file, err := overlay(ctx, work)
	if err != nil {
		return err
	}
	return stack.Build(ctx, dir, "-overlay", file)
}

// overlay writes into a folder what go build needs, and returns the name of the file that it is told.
func overlay(ctx context.Context, dir string) (name string, err error) {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT: %w", err)
	}
	original := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	source, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	text := string(source)
	for _, change := range [][2]string{
		{clockNow, clockWrong}, {clockImports, clockImports + "\t\"sync/atomic\"\n\t\"syscall\"\n\t\"unsafe\"\n"},
		{"\t_ \"unsafe\" // for go:linkname\n", ""},
	} {
		if strings.Count(text, change[0]) != 1 {
			return "", fmt.Errorf("%s is another one than that of Go 1.26: the clock of a program cannot be wrong", original)
		}
		text = strings.Replace(text, change[0], change[1], 1)
	}
	changed, name := filepath.Join(dir, "time.go"), filepath.Join(dir, "overlay.json")
	names, err := json.Marshal(map[string]any{"Replace": map[string]string{original: changed}})
	if err != nil {
		return "", err
	}
	return name, errors.Join(os.WriteFile(changed, []byte(text+clockSource), 0o644), os.WriteFile(name, names, 0o644))
}

// Clock is the clock of a process that Build has built. It is right until it is set.
type Clock struct{ file string }

// NewClock makes a clock, which is kept in a file.
func NewClock(file string) (Clock, error) {
	c := Clock{file}
	return c, c.Set(0)
}

// Env is the variable for the process.
func (c Clock) Env() string { return clockVariable + "=" + c.file }

// Set makes the clock wrong by so much, in whole seconds.
func (c Clock) Set(wrong time.Duration) error {
	file, err := os.OpenFile(c.file, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	// It is never truncated, since it is mapped.
	_, err = file.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(wrong/time.Second)), 0)
	return errors.Join(err, file.Close())
}
