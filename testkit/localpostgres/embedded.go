package localpostgres

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/xi2/xz"

	"github.com/altyn-pay/altyn/testkit/internal/local"
)

// The containers run the same version.
const (
	embeddedVersion = "18.4"
	embeddedMajor   = 18
)

// archives has the SHA-256 checksum of each platform's archive of that version.
var archives = map[string]string{
	"linux-amd64":        "401d4e69baba9072d3772607710df0d47b39a7632c6b01b2a5f5d85a9514e212",
	"linux-arm64v8":      "a9ec284923b9a7d2db41509bfb88c3d0eeb9f4aa5e2b29ea0aac5e8dbaf4c335",
	"linux-amd64-alpine": "fe42b1e2a60eb4c50f6859bf17e933fd87f6ad701a1e72ac54070a67acc58e14",
	"darwin-amd64":       "68381ed1488edd337345c6c4bc6ae0c823832a4dd7af8b04656ee5c218c291b5",
	"darwin-arm64v8":     "ab698c4486a795d2aa8a158b3a41e1201a77e7ff72a6255094cd5900080853c2",
}

const (
	mavenCentral = "https://repo1.maven.org/maven2"

	fetchTimeout = 5 * time.Minute
	dialTimeout  = 10 * time.Second // an unreachable network is to be noticed soon: there may be an installed server
	archiveBytes = 64 << 20         // at most; it is some 15 MB
)

// embedded returns the pinned PostgreSQL from the cache, and fetches it first if it is not there.
func embedded(ctx context.Context, user account, progress func(string)) (binaries, error) {
	cache, err := user.cacheDir()
	if err != nil {
		return binaries{}, fmt.Errorf("no cache folder: %w", err)
	}
	platform := platform()
	dir := filepath.Join(cache, "postgresql-"+embeddedVersion+"-"+platform)
	bin := binaries{kind: Embedded, version: embeddedVersion, dir: filepath.Join(dir, "bin")}
	if _, err := os.Stat(dir); err == nil {
		return bin, nil
	}
	checksum, ok := archives[platform]
	if !ok {
		return binaries{}, fmt.Errorf("there is no embedded PostgreSQL %s for %s", embeddedVersion, platform)
	}
	name := "embedded-postgres-binaries-" + platform
	url := fmt.Sprintf("%s/io/zonky/test/postgres/%s/%s.0/%s-%s.0.jar", mavenCentral, name, embeddedVersion, name,
		embeddedVersion)
	progress(fmt.Sprintf("fetching PostgreSQL %s (15 MB) into %s", embeddedVersion, cache))
	if err := fetch(ctx, url, checksum, dir); err != nil {
		return binaries{}, fmt.Errorf("PostgreSQL %s could not be fetched: %w", embeddedVersion, err)
	}
	return bin, nil
}

// platform is this machine's name in the archives.
func platform() string {
	arch := runtime.GOARCH
	if arch == "arm64" {
		arch = "arm64v8"
	}
	if _, err := os.Stat("/etc/alpine-release"); err == nil { // musl in place of glibc
		arch += "-alpine"
	}
	return runtime.GOOS + "-" + arch
}

// fetch downloads the archive and unpacks it into dir. The folder appears only when it is complete, so any number of
// processes may fetch at once.
func fetch(ctx context.Context, url, checksum, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	archive, err := download(ctx, url)
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(archive); hex.EncodeToString(sum[:]) != checksum {
		return fmt.Errorf("%s has the checksum %x and not the expected one", url, sum)
	}

	return local.Complete(dir, func(unfinished string) error {
		if err := unpack(archive, unfinished); err != nil {
			return fmt.Errorf("unpack %s: %w", url, err)
		}
		return nil
	})
}

func download(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = (&net.Dialer{Timeout: dialTimeout}).DialContext
	defer transport.CloseIdleConnections()

	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return nil, err // it names the URL
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, response.Status)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, archiveBytes))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	return body, nil
}

// unpack extracts the .txz in the archive, which is a .jar and thus a .zip.
func unpack(archive []byte, dir string) error {
	jar, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, file := range jar.File {
		if !strings.HasSuffix(file.Name, ".txz") {
			continue
		}
		compressed, err := file.Open()
		if err != nil {
			return err
		}
		defer compressed.Close()
		plain, err := xz.NewReader(compressed, 0)
		if err != nil {
			return err
		}
		return untar(tar.NewReader(plain), root)
	}
	return errors.New("it contains no .txz")
}

// untar writes the regular files and symbolic links, then lets everybody read them, whatever the umask.
func untar(archive *tar.Reader, root *os.Root) error {
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
				switch {
				case err != nil:
					return err
				case entry.IsDir(), path.Base(path.Dir(name)) == "bin":
					return root.Chmod(name, 0o755)
				case entry.Type().IsRegular():
					return root.Chmod(name, 0o644)
				}
				return nil
			})
		}
		if err != nil {
			return err
		}
		name := path.Clean(header.Name)
		if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
		switch header.Typeflag {
		case tar.TypeSymlink:
			err = root.Symlink(header.Linkname, name)
		case tar.TypeReg:
			err = writeFile(root, name, archive)
		}
		if err != nil {
			return err
		}
	}
}

func writeFile(root *os.Root, name string, content io.Reader) error {
	file, err := root.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	return errors.Join(err, file.Close())
}
