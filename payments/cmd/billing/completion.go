package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/altyn-pay/altyn/platform/config"
)

// shells are those that completion knows.
var shells = []string{"bash", "zsh", "fish"}

// completionCommand makes the command that prints the completion script of a program.
func completionCommand(p config.Program) config.Command {
	type settings struct {
		Shells []string `args:"SHELL"`
	}
	c := config.NewCommand("completion", "", func(_ context.Context, s settings) error {
		switch {
		case len(s.Shells) != 1 || !slices.Contains(shells, s.Shells[0]):
			return config.Invalid("completion", "takes one of %s", strings.Join(shells, ", "))
		case s.Shells[0] == "fish":
			fishCompletion(p.Stdout, p.Commands)
		default:
			bashCompletion(p.Stdout, p.Commands, s.Shells[0] == "zsh")
		}
		return nil
	})
	c.About = `It prints a script that completes commands and flags. Load it in the shell's start-up file:

  bash   source <(billing completion bash)
  zsh    source <(billing completion zsh)
  fish   billing completion fish | source`
	c.Examples = shells
	return c
}

// flagsOf lists the flags of a command.
func flagsOf(c config.Command) (flags []config.Variable) {
	for _, v := range c.Variables() {
		if v.Flag != "" {
			flags = append(flags, v)
		}
	}
	return flags
}

func bashCompletion(w io.Writer, commands []config.Command, zsh bool) {
	names := []string{"completion", "--help", "--version"}
	var cases strings.Builder
	for _, c := range commands {
		names = append(names, c.Name)
		fmt.Fprintf(&cases, "    %s) words='", c.Name)
		for _, f := range flagsOf(c) {
			fmt.Fprintf(&cases, "--%s ", f.Flag)
		}
		cases.WriteString("--help' ;;\n")
	}
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

func fishCompletion(w io.Writer, commands []config.Command) {
	quote := func(text string) string {
		return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(text) + "'"
	}
	fmt.Fprintln(w, "complete -c billing -f")
	fmt.Fprintln(w, "complete -c billing -n __fish_use_subcommand -a completion -d 'print a completion script'")
	fmt.Fprintf(w, "complete -c billing -n '__fish_seen_subcommand_from completion' -a %s\n",
		quote(strings.Join(shells, " ")))
	for _, c := range commands {
		fmt.Fprintf(w, "complete -c billing -n __fish_use_subcommand -a %s -d %s\n", c.Name, quote(c.Help))
		for _, f := range flagsOf(c) {
			takes := ""
			if f.Value != "" {
				takes = " -x"
			}
			fmt.Fprintf(w, "complete -c billing -n '__fish_seen_subcommand_from %s' -l %s%s -d %s\n",
				c.Name, f.Flag, takes, quote(f.Help))
		}
	}
}
