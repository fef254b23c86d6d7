package config

import "strings"

// Row is a variable's row in a Markdown table: | `NAME` | default | what it is |.
func (v Variable) Row() string {
	def := ""
	if v.Default != "" {
		def = "`" + v.Default + "`"
	}
	return "| `" + v.Name + "` | " + def + " | " + strings.NewReplacer("|", `\|`, "<", "&lt;").Replace(v.Help) + " |"
}
