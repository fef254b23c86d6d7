// Package config is the command line and the settings of every program: what can be set by which variable of the
// environment or which flag, --help, --version, and errors that name what is wrong.
//
// A setting is a field of a struct, and its tags say all about it. A struct without a tag is flattened, so that a
// package brings its own settings (postgres.Config, kafka.Config) and a program lists only what it uses:
//
//	type settings struct {
//		Addr  string        `env:"ORDERS_ADDR" default:":8080" help:"address of the HTTP API"`
//		Key   string        `env:"ORDERS_KEY" secret:"true" help:"key of the API"`
//		Wait  time.Duration `flag:"wait" default:"10s" help:"how long to wait for a reply"`
//		Order uuid.UUID     `flag:"order" value:"ID" required:"true" help:"the order"`
//		Parts []string      `args:"PART…"`
//		Kafka kafka.Config
//	}
//
// A field may have both a variable and a flag; the flag wins. Fields are strings, numbers, bools, durations, lists of
// strings (separated by commas) and whatever has UnmarshalText, whose error says what is allowed: "must be …". A
// variable that is set to nothing counts as not set. The struct, and each struct within it, may check itself
// (Validator).
//
// A program is its commands, each with settings of its own:
//
//	func main() {
//		os.Exit(config.Program{
//			Name: "orders", About: about, Default: "serve",
//			Commands: []config.Command{
//				config.NewCommand("serve", "serve the API", serve), // func serve(ctx context.Context, s settings) error
//				config.NewCommand("health", "ask whether it is ready", health),
//			},
//		}.Main())
//	}
//
// A program that does one thing has one command, without a name. The exit code is 0 (done), 1 (failed), 2 (wrong
// arguments or settings), or the error's own (Exit). The first mistake in the arguments ends the reading. Of the
// variables, one error names every bad one with its value and what is allowed, so that all can be repaired at once.
// Secrets are never shown. A variable NAME with a secret may be in a file, which NAME_FILE names.
package config
