package main

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

type object = map[string]any

const (
	problemJSON = "application/problem+json"
	problemRef  = "#/definitions/Problem"
)

// complete adds to a document what swag cannot say, or what would have to be said with every call:
//
//   - schemas have the names of their types, without Go's packages;
//   - the code of a problem is one of the service's codes;
//   - IDs and times have their formats, and the bodies of requests have an example;
//   - every call speaks JSON unless it says otherwise, has the answers that any call can have, and every answer its
//     headers.
func complete(spec object, codes []code, examples object) (object, error) {
	spec, err := rename(spec)
	if err != nil {
		return nil, err
	}
	definitions := spec["definitions"].(object)
	problem, ok := definitions["Problem"].(object)
	if !ok {
		return nil, errors.New("there is no definition of Problem")
	}
	var names []string
	for _, c := range codes {
		if c.status != "" {
			names = append(names, c.name)
		}
	}
	slices.Sort(names)
	problem["properties"].(object)["code"].(object)["enum"] = slices.Compact(names)
	for _, definition := range definitions {
		properties, _ := definition.(object)["properties"].(object)
		for name, property := range properties {
			giveFormat(name, property.(object))
		}
	}
	for path, methods := range spec["paths"].(object) {
		for method, operation := range methods.(object) {
			if err := completeOperation(operation.(object), definitions, examples); err != nil {
				return nil, fmt.Errorf("%s %s: %w", method, path, err)
			}
		}
	}
	for name := range examples {
		return nil, fmt.Errorf("there is an example of %s, which is the body of no request", name)
	}
	return spec, nil
}

var (
	generic   = regexp.MustCompile(`^\w+\.List-(?:\w+_)?(\w+)$`)
	qualified = regexp.MustCompile(`^\w+\.(\w+)$`)
)

// rename removes Go's packages from the names of the definitions.
func rename(spec object) (object, error) {
	names, taken := map[string]string{}, map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(spec["definitions"].(object))) {
		short := generic.ReplaceAllString(qualified.ReplaceAllString(name, "$1"), "${1}List")
		if other, ok := taken[short]; ok {
			return nil, fmt.Errorf("%s and %s would both be %s", other, name, short)
		}
		if !regexp.MustCompile(`^\w+$`).MatchString(short) {
			return nil, fmt.Errorf("no name for %s", name)
		}
		names[name], taken[short] = short, name
	}
	definitions := object{}
	for name, definition := range spec["definitions"].(object) {
		definitions[names[name]] = definition
	}
	spec["definitions"] = definitions
	var walk func(value any)
	walk = func(value any) {
		switch value := value.(type) {
		case object:
			if ref, ok := value["$ref"].(string); ok {
				name, _ := strings.CutPrefix(ref, "#/definitions/")
				value["$ref"] = "#/definitions/" + names[name]
			}
			for _, inner := range value {
				walk(inner)
			}
		case []any:
			for _, inner := range value {
				walk(inner)
			}
		}
	}
	walk(spec)
	return spec, nil
}

// giveFormat gives IDs and times their formats, which swag does not know.
func giveFormat(name string, property object) {
	if property["type"] != "string" {
		return
	}
	switch {
	case name == "trace_id": // of the W3C's form
	case name == "id" || strings.HasSuffix(name, "_id"):
		property["format"] = "uuid"
	case name == "at" || strings.HasSuffix(name, "_at"):
		property["format"] = "date-time"
		if property["example"] == nil {
			property["example"] = "2026-01-02T15:04:05.123456Z"
		}
	}
}

func completeOperation(operation, definitions, examples object) error {
	if operation["operationId"] == nil {
		return errors.New("it has no @ID")
	}
	parameters, _ := operation["parameters"].([]any)
	const media = "application/json"
	body, repeatable := operation["consumes"] != nil, false // one whose fields are all optional may have none to describe
	for _, parameter := range parameters {
		parameter := parameter.(object)
		switch parameter["in"] {
		case "body":
			giveExample(parameter, definitions, examples)
			body, operation["consumes"] = true, []any{media}
			continue
		case "header":
			repeatable = repeatable || parameter["name"] == "Idempotency-Key"
		}
		if example, ok := parameter["example"]; ok { // Swagger 2.0 has none here
			delete(parameter, "example")
			parameter["x-example"] = example
		}
	}

	responses := operation["responses"].(object)
	common := map[int]string{
		http.StatusBadRequest:          "validation_failed or unknown_parameter",
		http.StatusForbidden:           "cross_origin",
		http.StatusMisdirectedRequest:  "misdirected_request",
		http.StatusTooManyRequests:     "rate_limited",
		http.StatusInternalServerError: "internal",
		http.StatusServiceUnavailable:  "unavailable",
	}
	if body {
		common[http.StatusBadRequest] = "invalid_json, unknown_field, unknown_parameter or validation_failed"
		common[http.StatusServiceUnavailable] = "unavailable or overloaded"
		common[http.StatusRequestTimeout] = "request_timeout"
		common[http.StatusRequestEntityTooLarge] = "body_too_large"
		common[http.StatusUnsupportedMediaType] = "unsupported_media_type"
	}
	if repeatable {
		common[http.StatusServiceUnavailable] = "unavailable, overloaded or outcome_unknown"
	}
	for status, description := range common {
		responses[fmt.Sprint(status)] = object{"description": description, "schema": object{"$ref": problemRef}}
	}
	for status, response := range responses {
		describeHeaders(status, response.(object), operation, repeatable)
	}
	produces, ok := operation["produces"].([]any)
	if !ok {
		produces = []any{media}
	}
	if !slices.Contains(produces, any(problemJSON)) {
		operation["produces"] = append(produces, problemJSON)
	}
	return nil
}

// describeHeaders adds the headers that an answer with this status can have. A repeatable request has an
// Idempotency-Key.
func describeHeaders(status string, response, operation object, repeatable bool) {
	headers, ok := response["headers"].(object)
	if !ok {
		headers = object{}
		response["headers"] = headers
	}
	header := func(name, kind, description string) {
		if headers[name] == nil {
			headers[name] = object{"type": kind, "description": description}
		}
	}
	header("X-Request-Id", "string", "the request's ID, as it came or a new one; it is in the log")
	responses := operation["responses"].(object)
	switch {
	case status == "201":
		header("Location", "string", "where it is")
	case status == "202" && (responses["200"] != nil || responses["201"] != nil):
		header("Location", "string", "where its result will be")
	case status == "429", status == "503":
		header("Retry-After", "integer", "after how many seconds to try again")
		if repeatable && status == "503" {
			header("Location", "string", "of outcome_unknown: where to see what became of it")
		}
	}
	if repeatable && (status[0] == '2' || status == "404" || status == "422") {
		header("Idempotent-Replayed", "string", "true where an earlier request with this Idempotency-Key did it")
	}
}

// giveExample gives the body of a request an example that works as it stands: the given one, or else one made of its
// properties' examples.
func giveExample(parameter, definitions, examples object) {
	ref, _ := parameter["schema"].(object)["$ref"].(string)
	name, _ := strings.CutPrefix(ref, "#/definitions/")
	definition, ok := definitions[name].(object)
	if !ok {
		return
	}
	if example, ok := examples[name]; ok {
		definition["example"] = example
		delete(examples, name)
	} else if definition["example"] == nil {
		definition["example"] = exampleOf(definition, definitions)
	}
}

func exampleOf(schema, definitions object) any {
	if ref, ok := schema["$ref"].(string); ok {
		name, _ := strings.CutPrefix(ref, "#/definitions/")
		schema = definitions[name].(object)
	}
	for _, key := range []string{"example", "default"} {
		if example, ok := schema[key]; ok {
			return example
		}
	}
	if items, ok := schema["items"].(object); ok {
		if item := exampleOf(items, definitions); item != nil {
			return []any{item}
		}
		return nil
	}
	properties, ok := schema["properties"].(object)
	if !ok {
		return nil
	}
	example := object{}
	for name, property := range properties {
		if value := exampleOf(property.(object), definitions); value != nil {
			example[name] = value
		}
	}
	return example
}
