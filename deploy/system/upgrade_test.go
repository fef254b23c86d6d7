package system

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/testkit/localkafka"
)

var upgradeRate = flag.Float64("upgrade.rate", 60, "orders a second while TestUpgradeAndBack restarts everything")

// git runs git in the repository, and returns what it prints.
func git(t *testing.T, arguments ...string) (string, error) {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", "../.."}, arguments...)...).Output()
	return strings.TrimSpace(string(output)), err
}

// lastRelease is the newest release before this commit. Until there is one, testdata/release names a commit that stands
// for it.
func lastRelease(t *testing.T) string {
	t.Helper()
	if _, err := git(t, "rev-parse", "--git-dir"); err != nil {
		t.Skipf("NOT RUN without the repository's history, from which the last release is built: %v", err)
	}
	if tag, err := git(t, "describe", "--tags", "--match", "v*", "--abbrev=0", "HEAD^"); err == nil {
		return tag
	}
	text, err := os.ReadFile("testdata/release")
	if err != nil {
		t.Fatal(err)
	}
	commit := strings.TrimSpace(string(text))
	if _, err := git(t, "cat-file", "-e", commit+"^{commit}"); err != nil {
		const text = "the last release, %s, is not in this clone; git fetch --unshallow --tags gets it"
		shallow, _ := git(t, "rev-parse", "--is-shallow-repository")
		if shallow == "true" && os.Getenv("GITHUB_ACTIONS") == "" {
			t.Skipf("NOT RUN: "+text, commit)
		}
		t.Fatalf(text, commit)
	}
	return commit
}

// buildRelease builds the programs of a release once, and returns their folder in the user's cache.
func buildRelease(t *testing.T, release string) string {
	t.Helper()
	commit, err := git(t, "rev-parse", release+"^{commit}")
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	programs := filepath.Join(cache, "altyn", "releases", commit)
	if _, err := os.Stat(programs); err == nil {
		return programs
	}
	dir := t.TempDir()
	source, built := filepath.Join(dir, "source"), programs+filepath.Base(filepath.Dir(dir))
	if err := errors.Join(os.Mkdir(source, 0o755), os.MkdirAll(built, 0o755)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(built) }) // what a failure has left
	archive := filepath.Join(dir, "source.tar")
	if _, err := git(t, "archive", "--output", archive, release); err != nil {
		t.Fatalf("git archive %s: %v", release, err)
	}
	for _, command := range []*exec.Cmd{
		exec.CommandContext(t.Context(), "tar", "-xf", archive, "-C", source),
		exec.CommandContext(t.Context(), "go", "build", "-o", built,
			"-ldflags", "-X github.com/altyn-pay/altyn/platform/config.version="+release,
			"./orders/cmd/orders", "./payments/cmd/payments", "./gateway/cmd/gateway"),
	} {
		command.Dir = source
		command.Env = append(os.Environ(), "GOWORK="+filepath.Join(source, "go.work"))
		if output, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", command.Args, err, output)
		}
	}
	if err := os.Rename(built, programs); err != nil {
		t.Fatal(err)
	}
	return programs
}

// upgrade is a stack of two instances of everything, whose programs are replaced one after another.
type upgrade struct {
	*bundle
	programs string // a link to each program
	gateways [2]gatewayInstance
	turn     atomic.Int64
}

// gatewayInstance is a gateway behind the balancer. Each request to it holds the lock for reading, whoever takes the
// gateway out holds it for writing.
type gatewayInstance struct {
	sync.RWMutex
	name   string
	client *load.Client
}

// call sends a request to a gateway that is not taken out, as a balancer does. It is sent once.
func (u *upgrade) call(method, path, key string, body, out any) error {
	n := int(u.turn.Add(1))
	g := &u.gateways[n%2]
	if !g.TryRLock() {
		g = &u.gateways[(n+1)%2]
		g.RLock()
	}
	defer g.RUnlock()
	return g.client.Call(method, path, key, body, out)
}

// use replaces the programs of a service by those of a folder, one instance after another, each once the one before it
// is ready. An instance of orders or payments gets SIGTERM in the middle of its requests. A gateway is taken out first.
func (u *upgrade) use(folder, version, program string) {
	u.Helper()
	link := filepath.Join(u.programs, program)
	if err := errors.Join(os.Remove(link), os.Symlink(filepath.Join(folder, program), link)); err != nil {
		u.Fatal(err)
	}
	for i, name := range []string{program, program + "-2"} {
		if program == stack.Gateway {
			g := &u.gateways[i]
			g.Lock()
			g.client.Close()
		}
		if err := errors.Join(u.Restart(name), u.WaitReady(u.Context(), name)); err != nil {
			u.Fatalf("%s of %s: %v", name, version, err)
		}
		if program == stack.Gateway {
			u.gateways[i].client = load.New(u.URL(name))
			u.gateways[i].Unlock()
		}
		u.runs(name, version)
	}
}

// runs expects an instance to be of a version.
func (u *upgrade) runs(name, version string) {
	u.Helper()
	response, err := http.Get(u.AdminURL(name) + "/version")
	if err != nil {
		u.Fatal(err)
	}
	defer response.Body.Close()
	var build struct{ Version string }
	if err := json.NewDecoder(response.Body).Decode(&build); err != nil || build.Version != version {
		u.Errorf("%s is of version %q, not %q: %v", name, build.Version, version, err)
	}
}

// The last release is upgraded to this tree, and this tree goes back to the last release, under a steady load in an
// open loop: no request fails, and each order is paid once. Everything runs twice, and one instance is replaced after
// another. The requests have an Idempotency-Key; clients repeat none of them.
func TestUpgradeAndBack(t *testing.T) {
	release := lastRelease(t)
	old, kind := buildRelease(t, release), localkafka.Apache
	if localkafka.ApacheAvailable(t.Context()) != nil {
		kind = localkafka.Embedded
	}
	programs := t.TempDir()
	for _, program := range []string{stack.Orders, stack.Payments, stack.Gateway} {
		if err := os.Symlink(filepath.Join(old, program), filepath.Join(programs, program)); err != nil {
			t.Fatal(err)
		}
	}
	services := append(stack.Instances(2, 2, 0), stack.Service{Name: "gateway-2", Program: stack.Gateway})
	u := &upgrade{bundle: setupOf(t, programs, stack.Kafka{Kind: kind}, services), programs: programs}
	for i, name := range []string{"gateway", "gateway-2"} {
		u.gateways[i].name, u.gateways[i].client = name, load.New(u.URL(name))
	}
	accounts := u.accounts(50, "1000000.00")

	var placed atomic.Int64
	var mu sync.Mutex
	failed, ids := map[string]int{}, map[uuid.UUID]bool{}
	request := func(what string, call func() error) {
		if err := call(); err != nil {
			mu.Lock()
			failed[fmt.Sprintf("%s: %v", what, err)]++
			mu.Unlock()
		}
	}
	loading, over := context.WithCancel(t.Context())
	defer over()
	ended := make(chan error, 1)
	var timed load.Timed
	go func() {
		var err error
		loop := load.OpenLoop{Rate: *upgradeRate, Duration: 5 * time.Minute, InFlight: 2000}
		timed, err = loop.Run(loading, func(i int) error {
			account, key := accounts[i%len(accounts)], uuid.NewString()
			request("order", func() error {
				var order load.Order
				err := u.call("POST", "/api/v1/orders", key,
					load.NewOrder{AccountID: account, Amount: "1.00", Currency: "RUB"}, &order)
				if err == nil {
					mu.Lock()
					ids[order.ID] = true
					mu.Unlock()
					placed.Add(1)
				}
				return err
			})
			path := "/api/v1/accounts/" + account.String()
			switch i % 5 {
			case 0:
				request("balance", func() error { return u.call("GET", path+"/balance", "", nil, new(contract.Balances)) })
			case 1:
				request("deposit", func() error {
					return u.call("POST", path+"/deposits", key, map[string]string{"amount": "1.00", "currency": "RUB"}, nil)
				})
			}
			return nil
		})
		ended <- err
	}()
	some := int64(*upgradeRate / 2)

	u.progress(&placed, some)
	for _, service := range []string{stack.Orders, stack.Payments} {
		u.runs(service, release)
		u.migrate(service)
	}
	u.progress(&placed, some)
	order := []string{stack.Gateway, stack.Orders, stack.Payments}
	for _, program := range order {
		u.use(binaries, config.ThisBuild().Version, program)
	}
	u.progress(&placed, some)
	slices.Reverse(order)
	for _, program := range order {
		u.use(old, release, program)
	}
	u.progress(&placed, some)
	over()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the load: %v", err)
	}

	for what, n := range failed {
		t.Errorf("%d requests failed: %s", n, what)
	}
	report, err := u.books()
	if err != nil {
		t.Errorf("the books are wrong: %v", err)
	}
	var known []uuid.UUID
	if err := u.orders.Select(&known, `SELECT id FROM orders WHERE status = 'paid'`); err != nil {
		t.Fatal(err)
	}
	for _, id := range known {
		delete(ids, id)
	}
	if len(ids) > 0 || int64(len(known)) != placed.Load() {
		t.Errorf("%d orders were accepted, %d are paid, %d are lost", placed.Load(), len(known), len(ids))
	}
	for _, part := range u.Parts() {
		if part.Restarts > 0 {
			t.Errorf("%s has crashed %d times", part.Name, part.Restarts)
		}
	}
	t.Logf("from %s and back on %s at %g/s: %d orders, %v; the slowest request took %s", release, kind, *upgradeRate,
		report.Orders, report.OrdersByStatus, load.Quantile(timed.Latencies, 1))
}

// migrate runs the migrations of this tree.
func (u *upgrade) migrate(service string) {
	u.Helper()
	cfg, err := u.Database(service)
	if err != nil {
		u.Fatal(err)
	}
	command := exec.CommandContext(u.Context(), filepath.Join(binaries, service), "migrate")
	command.Env = append(os.Environ(), "POSTGRES_HOST="+cfg.Host, fmt.Sprintf("POSTGRES_PORT=%d", cfg.Port))
	if output, err := command.CombinedOutput(); err != nil {
		u.Fatalf("%s migrate: %v: %s", service, err, output)
	}
}
