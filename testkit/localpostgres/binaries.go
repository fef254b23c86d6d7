package localpostgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

// Kind says where the server's programs come from.
type Kind string

const (
	// Embedded is the version that this package pins, fetched once.
	Embedded Kind = "embedded"
	// Installed is the newest PostgreSQL of this machine, 15 or later, or the one that made the data.
	Installed Kind = "installed"
)

// oldestMajor is the first version that lets only a database's owner make tables in its schema "public".
const oldestMajor = 15

// binaries are the programs of one PostgreSQL.
type binaries struct {
	kind    Kind
	version string // such as 18.4
	dir     string
}

func (b binaries) String() string { return fmt.Sprintf("PostgreSQL %s (%s)", b.version, b.kind) }

// findBinaries returns programs of the wanted kind (see Options.Kind) that fit data of this major version; 0 means
// new data.
func findBinaries(ctx context.Context, kind Kind, major int, user account, progress func(string)) (binaries, error) {
	if kind == "" {
		kind = Kind(os.Getenv("POSTGRES"))
	}
	embeddedFits := major == 0 || major == embeddedMajor
	switch kind {
	case Embedded:
		if !embeddedFits {
			return binaries{}, fmt.Errorf("the data were made by PostgreSQL %d, the embedded one is %s: set "+
				"POSTGRES=%s, or delete the data",
				major, embeddedVersion, Installed)
		}
		return embedded(ctx, user, progress)
	case Installed:
		return installed(ctx, major, user)
	case "":
		if !embeddedFits {
			return installed(ctx, major, user)
		}
		bin, err := embedded(ctx, user, progress)
		if err == nil || ctx.Err() != nil {
			return bin, err
		}
		bin, installedErr := installed(ctx, major, user)
		if installedErr != nil {
			return binaries{}, fmt.Errorf("%w\n%w\nlet this machine reach %s, or install PostgreSQL %d or later, or use a "+
				"server that runs elsewhere",
				err, installedErr, mavenCentral, oldestMajor)
		}
		progress(fmt.Sprintf("%v; %s serves instead", err, bin))
		return bin, nil
	default:
		return binaries{}, fmt.Errorf("POSTGRES=%s is neither %s nor %s", kind, Embedded, Installed)
	}
}

// installedPlaces are where packages put the server's programs, which are seldom in PATH.
var installedPlaces = []string{
	"/usr/lib/postgresql/*/bin",         // Debian, Ubuntu
	"/usr/pgsql-*/bin",                  // PostgreSQL's packages for Red Hat
	"/usr/libexec/postgresql*",          // Alpine
	"/usr/local/pgsql/bin",              // from source
	"/opt/homebrew/opt/postgresql*/bin", // Homebrew
	"/usr/local/opt/postgresql*/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin",
}

var versionPattern = regexp.MustCompile(`\(PostgreSQL\) ((\d+)\S*)`)

// installed returns the newest installed PostgreSQL that fits the data.
func installed(ctx context.Context, major int, user account) (binaries, error) {
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	for _, place := range installedPlaces {
		found, err := filepath.Glob(place)
		if err != nil {
			return binaries{}, err // a malformed pattern
		}
		dirs = append(dirs, found...)
	}

	best, bestMajor := binaries{}, 0
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil || !user.reaches(dir) {
			continue
		}
		output, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
		if err != nil {
			continue
		}
		match := versionPattern.FindSubmatch(output)
		if match == nil {
			continue
		}
		found, _ := strconv.Atoi(string(match[2]))
		if found > bestMajor && found >= oldestMajor && (major == 0 || found == major) {
			best, bestMajor = binaries{kind: Installed, version: string(match[1]), dir: dir}, found
		}
	}
	switch {
	case bestMajor != 0:
		return best, nil
	case major != 0:
		return binaries{}, fmt.Errorf("the data were made by PostgreSQL %d, which is not installed: "+
			"install it, or delete the data", major)
	default:
		return binaries{}, errors.New("no PostgreSQL is installed (looked for 15 or later in PATH, " +
			"/usr/lib/postgresql/*/bin and where Homebrew and others put it)")
	}
}
