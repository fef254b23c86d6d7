// Command specification completes the Swagger document that swag makes of a service's comments (see complete), or
// writes the page of all error codes. go generate runs it:
//
//	go run ./deploy/cmd/specification document orders/docs
//	go run ./deploy/cmd/specification page docs/errors.md
package main

//go:generate go run . page ../../../docs/errors.md

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/altyn-pay/altyn/deploy/stack"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "specification:", err)
		os.Exit(1)
	}
}

// folders hold the codes, relative to the root of the repository. The services share one list, because behind the
// gateway they are one API.
var folders = []string{
	"platform/httpserver", "platform/operators", "platform/contract", "orders/internal/api", "payments/internal/api",
	"payments/internal/ledger",
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("say document and a folder, or page and a file")
	}
	root, err := stack.Root()
	if err != nil {
		return err
	}
	codes, err := readCodes(root, folders)
	if err != nil {
		return err
	}
	switch args[0] {
	case "document":
		return document(args[1], codes)
	case "page":
		return os.WriteFile(args[1], page(codes), 0o644)
	}
	return fmt.Errorf("%q is neither document nor page", args[0])
}

// document completes the folder's swagger.json with the examples of requests in its examples.json.
func document(folder string, codes []code) error {
	file := filepath.Join(folder, "swagger.json")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var spec object
	if err := json.Unmarshal(text, &spec); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	examples := object{}
	switch text, err := os.ReadFile(filepath.Join(folder, "examples.json")); {
	case err == nil:
		if err := json.Unmarshal(text, &examples); err != nil {
			return fmt.Errorf("examples.json: %w", err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if spec, err = complete(spec, codes, examples); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(spec); err != nil {
		return err
	}
	return os.WriteFile(file, out.Bytes(), 0o644)
}
