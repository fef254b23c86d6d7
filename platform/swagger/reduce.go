package swagger

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
)

// Reduce drops everything from a Swagger 2.0 document but the paths to keep, and what they refer to. It makes the
// document speak of the server that it is read from: without host and schemes, a browser sends "Try it out" to the
// origin of the page.
func Reduce(document map[string]any, keep func(path string) bool) {
	delete(document, "host")
	delete(document, "schemes")
	paths, _ := document["paths"].(map[string]any)
	maps.DeleteFunc(paths, func(path string, _ any) bool { return !keep(path) })

	used := make(map[any]bool)
	for _, methods := range paths {
		operations, _ := methods.(map[string]any)
		for _, operation := range operations {
			described, _ := operation.(map[string]any)
			tags, _ := described["tags"].([]any)
			for _, tag := range tags {
				used[tag] = true
			}
		}
	}
	tags, _ := document["tags"].([]any)
	document["tags"] = slices.DeleteFunc(tags, func(tag any) bool {
		described, _ := tag.(map[string]any)
		return !used[described["name"]]
	})

	definitions, _ := document["definitions"].(map[string]any)
	needed := make(map[string]any)
	for _, part := range []string{"paths", "parameters", "responses"} {
		need(definitions, document[part], needed)
	}
	document["definitions"] = needed
}

var reference = regexp.MustCompile(`"#/definitions/([^"]+)"`)

// need adds the definitions that a part of a document refers to, and those that they refer to.
func need(definitions map[string]any, part any, needed map[string]any) {
	text, _ := json.Marshal(part) // It was decoded from JSON.
	for _, match := range reference.FindAllSubmatch(text, -1) {
		name := string(match[1])
		if definition, ok := definitions[name]; ok && needed[name] == nil {
			needed[name] = definition
			need(definitions, definition, needed)
		}
	}
}
