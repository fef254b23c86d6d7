package main

import (
	"bytes"
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// code is an error code: a constant that is named Code…, is of a type Reason, or stands among constants whose comment
// begins with "Reasons". Its own comment begins with the status.
type code struct {
	name, status, meaning string // a reason that is no error has no status
}

var commented = regexp.MustCompile(`^([45]\d\d): (.+)$`)

// readCodes finds the codes in the Go files of these folders, in order.
func readCodes(root string, folders []string) ([]code, error) {
	var codes []code
	for _, folder := range folders {
		files, err := filepath.Glob(filepath.Join(root, folder, "*.go"))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				return nil, err
			}
			for _, declaration := range tree.Decls {
				constants, ok := declaration.(*ast.GenDecl)
				if !ok || constants.Tok != token.CONST {
					continue
				}
				for _, spec := range constants.Specs {
					c, ok, err := readCode(spec.(*ast.ValueSpec), strings.HasPrefix(constants.Doc.Text(), "Reasons"))
					if err != nil {
						return nil, fmt.Errorf("%s: %w", file, err)
					}
					if ok {
						codes = append(codes, c)
					}
				}
			}
		}
		if len(files) == 0 {
			return nil, fmt.Errorf("%s has no Go files", folder)
		}
	}
	for i, c := range codes {
		if j := slices.IndexFunc(codes, func(other code) bool {
			return other.name == c.name
		}); j < i && codes[j].status != c.status {
			return nil, fmt.Errorf("%s is %s and %s", c.name, codes[j].status, c.status)
		}
	}
	return codes, nil
}

func readCode(spec *ast.ValueSpec, isReason bool) (code, bool, error) {
	if len(spec.Names) != 1 || len(spec.Values) != 1 {
		return code{}, false, nil
	}
	name := spec.Names[0].Name
	isCode := len(name) > len("Code") && strings.EqualFold(name[:4], "code") && ast.IsExported(name[4:])
	if kind, ok := spec.Type.(*ast.Ident); !isCode && !isReason && (!ok || kind.Name != "Reason") {
		return code{}, false, nil
	}
	literal, ok := spec.Values[0].(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return code{}, false, nil
	}
	value, err := strconv.Unquote(literal.Value)
	if err != nil {
		return code{}, false, err
	}
	comment := strings.Join(strings.Fields(spec.Doc.Text()+spec.Comment.Text()), " ") // above the code or behind it
	if parts := commented.FindStringSubmatch(comment); parts != nil {
		return code{name: value, status: parts[1], meaning: parts[2]}, true, nil
	}
	if isCode || comment == "" {
		return code{}, false, fmt.Errorf(`%s needs a comment such as "404: there is no such thing"`, name)
	}
	return code{name: value, meaning: comment}, true, nil
}

// page returns the page of the codes, sorted by status and name.
func page(codes []code) []byte {
	codes = slices.Clone(codes)
	slices.SortStableFunc(codes, func(a, b code) int {
		return cmp.Or(cmp.Compare(a.status, b.status), cmp.Compare(a.name, b.name))
	})
	codes = slices.CompactFunc(codes, func(a, b code) bool { return a.name == b.name })
	var out bytes.Buffer
	out.WriteString(`# Error codes

<!-- Written by make generate from the constants in the code. -->

Every error is ` + "`application/problem+json`" + ` (RFC 9457) with one of these codes: the list is closed, so a client
may switch on them. An operation that ended in an error has its code as ` + "`reason`" + ` too, in events, replies and
answers.

| status | code | meaning |
| --- | --- | --- |
`)
	reasons := slices.IndexFunc(codes, func(c code) bool { return c.status != "" }) // those that are no errors come first
	for _, c := range codes[reasons:] {
		fmt.Fprintf(&out, "| %s | `%s` | %s |\n", c.status, c.name, c.meaning)
	}
	out.WriteString("\nOf what is not final, the `reason` says what it waits for, or how far it has come:\n\n| reason " +
		"| meaning |\n| --- | --- |\n")
	for _, c := range codes[:reasons] {
		fmt.Fprintf(&out, "| `%s` | %s |\n", c.name, c.meaning)
	}
	return out.Bytes()
}
