package config

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// help prints what the program is, its commands and the variables of all of them.
func (p Program) help() {
	fmt.Fprintf(p.Stdout, "%s\n\nUsage: %s <command> [flags]\n", strings.TrimSpace(p.About), p.Name)
	table := tabwriter.NewWriter(p.Stdout, 0, 0, 2, ' ', 0)
	var vars []Variable
	for i, c := range p.Commands {
		if c.Help == "" {
			continue
		}
		if i == 0 || c.Group != p.Commands[i-1].Group {
			fmt.Fprintf(table, "\n%s:\n", cmp.Or(c.Group, "Commands"))
		}
		help := c.Help
		if c.Name == p.Default {
			help += " (the default)"
		}
		fmt.Fprintf(table, "  %s\t%s\n", c.Name, help)
		for _, v := range c.Variables() {
			if v.Name != "" && !slices.ContainsFunc(vars, func(known Variable) bool { return known.Name == v.Name }) {
				vars = append(vars, v)
			}
		}
	}
	table.Flush()
	fmt.Fprintf(p.Stdout, "\n%s <command> --help explains a command, %s --version tells what was built.\n", p.Name, p.Name)
	if p.More != "" {
		fmt.Fprintf(p.Stdout, "\n%s\n", strings.TrimSpace(p.More))
	}
	printVariables(p.Stdout, vars)
}

// explain prints the help of a command.
func (p Program) explain(c Command) {
	usage := strings.TrimSpace(p.Name + " " + c.Name)
	if c.Name == "" {
		fmt.Fprintf(p.Stdout, "%s\n\n", strings.TrimSpace(p.About))
	} else {
		fmt.Fprintf(p.Stdout, "%s: %s\n\n", usage, c.Help)
	}
	vars := c.Variables()
	words := []string{"Usage:", usage}
	flags := false
	for _, v := range vars {
		flags = flags || v.Flag != ""
		if v.Required {
			words = append(words, "--"+v.Flag, v.Value)
		}
	}
	if flags {
		words = append(words, "[flags]")
	}
	for _, v := range vars {
		if v.Arguments != "" {
			words = append(words, "["+v.Arguments+"]")
		}
	}
	fmt.Fprintln(p.Stdout, strings.Join(words, " "))
	if c.About != "" {
		fmt.Fprintf(p.Stdout, "\n%s\n", strings.TrimSpace(c.About))
	}
	if flags {
		fmt.Fprintln(p.Stdout, "\nFlags:")
	}
	table := tabwriter.NewWriter(p.Stdout, 0, 0, 2, ' ', 0)
	for _, v := range vars {
		if v.Flag == "" {
			continue
		}
		help := v.Help
		if v.Name != "" {
			help += " (" + v.Name + ")"
		}
		if v.Default != "" {
			help += " (default " + v.Default + ")"
		}
		fmt.Fprintf(table, "  --%s\t%s\n", strings.TrimSpace(v.Flag+" "+v.Value), help)
	}
	table.Flush()
	printVariables(p.Stdout, slices.DeleteFunc(vars, func(v Variable) bool { return v.Name == "" || v.Flag != "" }))
	if p.More != "" && c.Name == "" {
		fmt.Fprintf(p.Stdout, "\n%s\n", strings.TrimSpace(p.More))
	}
	if len(c.Examples) > 0 {
		fmt.Fprintln(p.Stdout, "\nExamples:")
	}
	for _, example := range c.Examples {
		fmt.Fprintf(p.Stdout, "  $ %s\n", strings.TrimSpace(usage+" "+example))
	}
}

// printVariables prints variables as a table.
func printVariables(w io.Writer, vars []Variable) {
	if len(vars) == 0 {
		return
	}
	fmt.Fprintln(w, "\nEnvironment variables and their defaults:")
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, v := range vars {
		fmt.Fprintf(table, "  %s\t%s\t%s\n", v.Name, v.Default, v.Help)
	}
	table.Flush()
}

// Row is a variable's row in a Markdown table: | `NAME` | default | what it is |.
func (v Variable) Row() string {
	def := ""
	if v.Default != "" {
		def = "`" + v.Default + "`"
	}
	return "| `" + v.Name + "` | " + def + " | " + strings.NewReplacer("|", `\|`, "<", "&lt;").Replace(v.Help) + " |"
}
