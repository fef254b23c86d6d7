package stack

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/localkafka"
	"github.com/altyn-pay/altyn/testkit/localpostgres"
)

// Options of Start. The zero value is PostgreSQL and Kafka alone, on free ports, with temporary data.
type Options struct {
	// Dir keeps the data and the logs. Empty means a temporary folder, which Close deletes.
	Dir string
	// Binaries is the folder of the services' programs, see Build. Services with a database are always needed, to
	// migrate it.
	Binaries string
	Postgres Postgres
	Kafka    Kafka
	// Services are the instances to run; see Instances for the usual ones.
	Services []Service
	// Prometheus watches them.
	Prometheus Prometheus
	// Logger is told when a part crashes and is started again; nil for silence. The parts themselves log to files.
	Logger *slog.Logger
	// Progress is told in a line what is being done and what is ready; nil for silence.
	Progress func(string)
	// Changed is told of all parts when one has started or ended; may be nil. It must not start or stop any.
	Changed func([]Part)
	// Link, if not nil, is asked for the address by which an instance of a service reaches another part, which listens on
	// addr: that of a proxy, or addr. It is called once for each pair, before anything has started; and for each of
	// several brokers with OtherBrokers. Only Apache Kafka is reached through it.
	Link func(from, to, addr string) (string, error)
}

// Postgres is the PostgreSQL that the stack uses.
type Postgres struct {
	// Port on 127.0.0.1; 0 is a free one.
	Port uint16
	// Kind as in localpostgres.Options.
	Kind localpostgres.Kind
	// NoSync turns fsync off.
	NoSync bool
	// Running is a server that runs already, so that none is started. Only Host, Port, SSLMode and SSLRoots count.
	Running *pg.Config
	// Admin is that server's superuser, who makes the roles and databases. Without it they must exist.
	Admin *pg.Config
	// Apart has, for each service with a database, how the superuser of a server connects that runs already for this
	// database. Then all else does not count, and none is started.
	Apart map[string]pg.Config
}

// Kafka is the Kafka that the stack uses.
type Kafka struct {
	// Port on 127.0.0.1; 0 is a free one.
	Port uint16
	// Kind as in localkafka.Options.
	Kind localkafka.Kind
	// Brokers is how many there are, 0 is one. Several are Apache Kafka, named kafka, kafka-2, …; each partition is then
	// on three of them at most.
	Brokers int
	// Running are the addresses of brokers that run already, so that none is started.
	Running []string
}

// The services' programs.
const (
	Orders   = "orders"
	Payments = "payments"
	Gateway  = "gateway"
	// Issuer issues tokens, for development. Where it is one of the services, the others take its tokens alone
	// (AUTH=jwt).
	Issuer = "issuer"
)

// Names of the parts that are no services. Further brokers are kafka-2, kafka-3, ….
const (
	PostgresName = "postgres"
	KafkaName    = "kafka"
)

// withDatabase are the services with a database, which has the same name.
var withDatabase = []string{Orders, Payments}

// Service is one instance of a service.
type Service struct {
	// Name of the instance, such as payments-2; it must be unique.
	Name string
	// Program is Orders, Payments, Gateway or Issuer.
	Program string
	// Addr of the API and AdminAddr of the operators' plane; empty means 127.0.0.1 and a free port.
	Addr, AdminAddr string
	// Env has further variables (NAME=value), which override all others.
	Env []string
	// Worker says that the instance serves no API (ROLE=worker), so that no requests are sent there.
	Worker bool
}

// Instances returns a gateway and so many instances of orders, payments and payments' workers. They are named
// gateway, orders, orders-2, …, payments, payments-2, …, payments-worker, payments-worker-2, ….
func Instances(orders, payments, workers int) []Service {
	var services []Service
	add := func(n int, service Service) {
		for i := range n {
			instance := service
			instance.Name = nth(service.Name, i)
			services = append(services, instance)
		}
	}
	add(1, Service{Name: Gateway, Program: Gateway})
	add(orders, Service{Name: Orders, Program: Orders})
	add(payments, Service{Name: Payments, Program: Payments})
	add(workers, Service{Name: Payments + "-worker", Program: Payments, Worker: true})
	return services
}

// Brokers are the names of the brokers that the stack starts.
func Brokers(kafka Kafka) (names []string) {
	for i := range max(1, kafka.Brokers) {
		names = append(names, nth(KafkaName, i))
	}
	return names
}

// nth is the name of the i-th part of those with this name, counted from 0.
func nth(name string, i int) string {
	if i == 0 {
		return name
	}
	return fmt.Sprintf("%s-%d", name, i+1)
}

// complete fills in what the caller left out.
func (o *Options) complete() error {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	if o.Changed == nil {
		o.Changed = func([]Part) {}
	}
	var errs []error
	free := func() uint16 {
		port, err := FreePort()
		errs = append(errs, err)
		return port
	}
	if o.Postgres.Port == 0 {
		o.Postgres.Port = free()
	}
	if o.Kafka.Port == 0 {
		o.Kafka.Port = free()
	}
	o.Kafka.Brokers = max(1, o.Kafka.Brokers)
	o.Services = slices.Clone(o.Services)
	for i := range o.Services {
		service := &o.Services[i]
		if service.Addr == "" {
			service.Addr = loopbackAddr(free())
		}
		if service.AdminAddr == "" {
			service.AdminAddr = loopbackAddr(free())
		}
	}
	if o.Prometheus.Addr == "" {
		o.Prometheus.Addr = loopbackAddr(free())
	}
	return errors.Join(errs...)
}

func (o *Options) check() error {
	names := append([]string{PostgresName, PrometheusName}, Brokers(o.Kafka)...)
	for _, service := range o.Services {
		switch {
		case !slices.Contains([]string{Orders, Payments, Gateway, Issuer}, service.Program):
			return fmt.Errorf("%q is no service", service.Program)
		case service.Name == "" || filepath.Base(service.Name) != service.Name: // it names a file
			return fmt.Errorf("bad name %q of an instance of %s", service.Name, service.Program)
		case slices.Contains(names, service.Name):
			return fmt.Errorf("two parts are named %s", service.Name)
		}
		names = append(names, service.Name)
	}
	for _, program := range o.programs() {
		if _, err := os.Stat(filepath.Join(o.Binaries, program)); err != nil {
			return fmt.Errorf("the services are not built (make build): %w", err)
		}
	}
	return nil
}

// programs returns the programs that are needed: services migrate their databases even if no instance of them runs.
func (o *Options) programs() []string {
	needed := slices.Clone(withDatabase)
	for _, service := range o.Services {
		needed = append(needed, service.Program)
	}
	slices.Sort(needed)
	return slices.Compact(needed)
}
