// Command importrules checks what the compiler does not: which package may import which. It names every import that is
// against a rule, and ends with 1 if there is one.
//
//	go run ./deploy/cmd/importrules ./deploy/... ./gateway/... ./orders/... ./payments/... ./platform/...
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

func main() {
	packages, err := list(".", os.Environ(), os.Args[1:])
	if err == nil {
		err = check(packages)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// rule says what some packages may not import.
type rule struct {
	about     paths
	exempt    paths
	forbidden func(imported string) bool
	why       string
	notTests  bool // whether tests may all the same
}

const (
	knowsNone = "platform serves any service and knows none"
	meet      = "services meet in events and HTTP, not in code"
	workshop  = "what tests share stays out of what is shipped"
	outside   = "what runs and tests the services sees them from outside"
	broker    = "the broker's library stays behind platform/kafka"
	pure      = "what decides about money and orders does no I/O; the packages around it load and store"
)

var rules = []rule{
	{about: paths{"platform/…"}, forbidden: paths{"deploy/…", "gateway/…", "orders/…", "payments/…"}.have, why: knowsNone},
	{about: paths{"gateway/…"}, forbidden: paths{"deploy/…", "orders/…", "payments/…"}.have, why: meet},
	{about: paths{"orders/…"}, forbidden: paths{"deploy/…", "gateway/…", "payments/…"}.have, why: meet},
	{about: paths{"payments/…"}, forbidden: paths{"deploy/…", "gateway/…", "orders/…"}.have, why: meet},
	{about: paths{"deploy/…"}, forbidden: paths{"gateway/…", "orders/…", "payments/…"}.have, why: outside},
	{about: paths{"testkit/…"}, forbidden: paths{"deploy/…", "gateway/…", "orders/…", "payments/…"}.have, why: knowsNone},
	{about: paths{"gateway/…", "orders/…", "payments/…", "platform/…"}, forbidden: paths{"testkit/…"}.have, why: workshop, notTests: true},
	{about: own, exempt: paths{"platform/kafka"}, forbidden: paths{"github.com/segmentio/kafka-go/…"}.have, why: broker},
	{about: paths{"orders/internal/order"}, forbidden: doesIO, why: pure, notTests: true},
	{about: paths{"payments/internal/ledger"}, forbidden: doesIO, why: pure, notTests: true},
}

// own are all packages of this repository.
var own = paths{"deploy/…", "gateway/…", "orders/…", "payments/…", "platform/…", "testkit/…"}

// A pure package does without these of the standard library, and has only these of all others.
var (
	standardIO = paths{"database/…", "io/ioutil", "log/…", "net/…", "os/…", "plugin", "syscall", "unsafe"}
	pureOthers = paths{"platform/contract", "platform/money", "github.com/google/uuid"}
)

func doesIO(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	if standard := !strings.Contains(first, ".") && !own.have(imported); standard {
		return standardIO.have(imported)
	}
	return !pureOthers.have(imported)
}

// paths are packages, and trees of packages ("orders/…"). Those of this repository are without their common beginning.
type paths []string

const altyn = "github.com/altyn-pay/altyn/"

func (p paths) have(path string) bool {
	return slices.ContainsFunc(p, func(one string) bool {
		tree, isTree := strings.CutSuffix(one, "…")
		return path == one || isTree && strings.HasPrefix(path+"/", tree)
	})
}

// check returns all imports that are against a rule in one error. A rule about no package is an error too, so that none is
// lost when something is renamed.
func check(packages []goPackage) error {
	var errs []error
	for _, r := range rules {
		met := false
		for _, p := range packages {
			name := strings.TrimPrefix(p.ImportPath, altyn)
			if !r.about.have(name) || r.exempt.have(name) {
				continue
			}
			met = true
			imports := p.Imports
			if !r.notTests {
				imports = slices.Concat(imports, p.TestImports, p.XTestImports)
			}
			for _, imported := range slices.Compact(slices.Sorted(slices.Values(imports))) {
				if imported = strings.TrimPrefix(imported, altyn); r.forbidden(imported) {
					errs = append(errs, fmt.Errorf("%s imports %s: %s", name, imported, r.why))
				}
			}
		}
		if !met {
			errs = append(errs, fmt.Errorf("there is no package %s, about which there is a rule", strings.Join(r.about, ", ")))
		}
	}
	return errors.Join(errs...)
}

// goPackage is what go list says of a package.
type goPackage struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

// list returns the packages that match the patterns. They need not compile.
func list(dir string, env, patterns []string) ([]goPackage, error) {
	args := []string{"list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports"}
	cmd := exec.Command("go", append(args, patterns...)...)
	cmd.Dir, cmd.Env, cmd.Stderr = dir, env, os.Stderr
	output, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var packages []goPackage
	for decoder := json.NewDecoder(bytes.NewReader(output)); ; {
		var p goPackage
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages, nil
		}
		if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		packages = append(packages, p)
	}
}
