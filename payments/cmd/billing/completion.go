package main

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

// shells are those that completion knows.
var shells = []string{"bash", "zsh", "fish"}

const completionHelp = `billing completion prints a script that completes commands and flags.

Usage: billing completion <shell>

The shell is one of bash, zsh, fish. Load it in the shell's start-up file:

  bash   source <(billing completion bash)
  zsh    source <(billing completion zsh)
  fish   billing completion fish | source
`

// completion prints the completion script of a shell.
func (p *program) completion(args []string) error {
	switch {
	case len(args) == 1 && isHelp(args[0]):
		fmt.Fprint(p.stdout, completionHelp)
		return nil
	case len(args) != 1 || !slices.Contains(shells, args[0]):
		return wrong("completion takes one of %s; see billing completion --help", strings.Join(shells, ", "))
	case args[0] == "fish":
		fishCompletion(p.stdout)
	default:
		bashCompletion(p.stdout, args[0] == "zsh")
	}
	return nil
}

// eachCommand calls do for every command with its flags.
func eachCommand(do func(c subcommand, flags []*flag.Flag)) {
	for _, g := range subcommands() {
		for _, c := range g.commands {
			set := flag.NewFlagSet(c.name, flag.ContinueOnError)
			c.define(set)
			var flags []*flag.Flag
			set.VisitAll(func(f *flag.Flag) { flags = append(flags, f) })
			do(c, flags)
		}
	}
}

func bashCompletion(w io.Writer, zsh bool) {
	names := []string{"completion", "--help", "--version"}
	var cases strings.Builder
	eachCommand(func(c subcommand, flags []*flag.Flag) {
		names = append(names, c.name)
		fmt.Fprintf(&cases, "    %s) words='", c.name)
		for _, f := range flags {
			fmt.Fprintf(&cases, "--%s ", f.Name)
		}
		cases.WriteString("--help' ;;\n")
	})
	if zsh {
		fmt.Fprintln(w, "autoload -U +X bashcompinit && bashcompinit")
	}
	fmt.Fprintf(w, `_billing() {
  local words
  case "${COMP_WORDS[1]}" in
    completion) words='%s' ;;
%s  esac
  if [ "$COMP_CWORD" -eq 1 ]; then
    words='%s'
  fi
  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -F _billing billing
`, strings.Join(shells, " "), cases.String(), strings.Join(names, " "))
}

func fishCompletion(w io.Writer) {
	quote := func(text string) string {
		return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(text) + "'"
	}
	fmt.Fprintln(w, "complete -c billing -f")
	fmt.Fprintln(w, "complete -c billing -n __fish_use_subcommand -a completion -d 'print a completion script'")
	fmt.Fprintf(w, "complete -c billing -n '__fish_seen_subcommand_from completion' -a %s\n", quote(strings.Join(shells, " ")))
	eachCommand(func(c subcommand, flags []*flag.Flag) {
		fmt.Fprintf(w, "complete -c billing -n __fish_use_subcommand -a %s -d %s\n", c.name, quote(c.summary))
		for _, f := range flags {
			value, help := flag.UnquoteUsage(f)
			takes := ""
			if value != "" {
				takes = " -x"
			}
			fmt.Fprintf(w, "complete -c billing -n '__fish_seen_subcommand_from %s' -l %s%s -d %s\n",
				c.name, f.Name, takes, quote(strings.TrimPrefix(help, value+" ")))
		}
	})
}
