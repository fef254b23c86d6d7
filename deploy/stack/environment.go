package stack

import (
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/testkit/localkafka"
)

// The garbage collector of the services, as in the Compose file. Requests leave much garbage and little that lives,
// and a collection costs by what lives, so there may be much garbage. Where much lives, such as thousands of open
// streams, the limit bounds both.
const (
	GCPercent   = 250 // GOGC
	memoryLimit = "350MiB"
)

// own are variables that differ from service to service, so one value for all of them would be wrong.
var own = []string{
	"ROLE", "POSTGRES_DATABASE", "POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_OWNER", "POSTGRES_OWNER_PASSWORD",
	"POSTGRES_PASSWORD_FILE", "POSTGRES_OWNER_PASSWORD_FILE", "KAFKA_INSTANCE_ID",
}

// Shared returns the variables of this process that all services get as they are.
func Shared() map[string]string { return byName(shared()) }

func byName(env []string) map[string]string {
	values := make(map[string]string)
	for _, variable := range env {
		name, value, _ := strings.Cut(variable, "=")
		values[name] = value
	}
	return values
}

// Dev is the AUTH of a stack with an issuer of its own. No service knows it.
const Dev = "dev"

func shared() []string {
	return slices.DeleteFunc(os.Environ(), func(variable string) bool {
		name, value, _ := strings.Cut(variable, "=")
		return slices.Contains(own, name) || name == "AUTH" && value == Dev
	})
}

// environment returns a program's variables: those of this process, then those that make it a part of this stack. As
// in the Compose file, the passwords of the databases' roles come from ORDERS_PASSWORD, ORDERS_OWNER_PASSWORD,
// PAYMENTS_PASSWORD and PAYMENTS_OWNER_PASSWORD, or from the files that these name with _FILE.
func (s *Stack) environment(program string) []string {
	env := shared()
	prefix := strings.ToUpper(program) + "_"
	for _, name := range []string{"PASSWORD", "OWNER_PASSWORD", "PASSWORD_FILE", "OWNER_PASSWORD_FILE"} {
		if value := os.Getenv(prefix + name); value != "" {
			env = append(env, "POSTGRES_"+name+"="+value)
		}
	}
	if issuer := s.issuer(); issuer != "" {
		env = append(env, "AUTH=jwt", "AUTH_ISSUER="+issuer, "AUTH_AUDIENCE="+load.Audience, "AUTH_JWKS_URL=",
			"AUTH_TENANT_CLAIM=")
	}
	if replicas := min(s.opts.Kafka.Brokers, localkafka.MaxReplicas); replicas > 1 {
		env = append(env, "KAFKA_REPLICATION_FACTOR="+strconv.Itoa(replicas))
	}
	server, ok := s.opts.Postgres.Apart[program]
	if !ok {
		server = s.postgres
	}
	return append(env,
		"POSTGRES_HOST="+server.Host,
		"POSTGRES_PORT="+strconv.Itoa(int(server.Port)),
		"POSTGRES_SSLMODE="+server.SSLMode,
		"POSTGRES_SSLROOTCERT="+server.SSLRoots,
		brokersVariable(s.brokers),
	)
}

func brokersVariable(brokers []string) string { return "KAFKA_BROKERS=" + strings.Join(brokers, ",") }

// serviceEnvironment adds what one instance needs.
func (s *Stack) serviceEnvironment(service Service) []string {
	env := append(append(s.environment(service.Program), s.routes[service.Name].environment()...),
		strings.ToUpper(service.Program)+"_ADDR="+service.Addr,
		strings.ToUpper(service.Program)+"_ADMIN_ADDR="+service.AdminAddr)
	if os.Getenv("GOMAXPROCS") == "" {
		env = append(env, "GOMAXPROCS="+strconv.Itoa(serviceThreads(service.Program, runtime.GOMAXPROCS(0))))
	}
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		env = append(env, "GOGC="+strconv.Itoa(GCPercent), "GOMEMLIMIT="+memoryLimit)
	}
	if service.Worker {
		env = append(env, "ROLE=worker")
	}
	if service.Program == Gateway {
		env = append(env,
			"ORDERS_URL="+strings.Join(s.upstreams(service.Name, Orders), ","),
			"PAYMENTS_URL="+strings.Join(s.upstreams(service.Name, Payments), ","),
		)
	}
	if service.Program == Issuer {
		env = append(env, "ISSUER_URL="+s.issuer(), "ISSUER_KEY_FILE="+s.dataDir(Issuer+".pem"),
			"ALLOWED_ORIGINS="+strings.Join(s.pages(), ","))
	}
	return append(env, service.Env...)
}

// issuer returns the URL of the stack's own issuer; "" where it has none.
func (s *Stack) issuer() string {
	for _, service := range s.opts.Services {
		if service.Program == Issuer {
			return "http://" + dialable(service.Addr)
		}
	}
	return ""
}

// pages are the origins of the pages of Swagger UI, whose Authorize asks the issuer.
func (s *Stack) pages() []string {
	var origins []string
	for _, service := range s.opts.Services {
		for _, addr := range []string{service.Addr, service.AdminAddr} {
			if _, port, err := net.SplitHostPort(addr); err == nil {
				origins = append(origins, scheme(service)+"127.0.0.1:"+port, scheme(service)+"localhost:"+port)
			}
		}
	}
	return origins
}

// scheme begins the URLs of a service: https where it has a certificate.
func scheme(service Service) string {
	if service.Program != Issuer && byName(append(shared(), service.Env...))["TLS_CERT_FILE"] != "" {
		return "https://"
	}
	return "http://"
}

// serviceThreads is a service's GOMAXPROCS on a machine with so many cores, which it shares with the other services,
// PostgreSQL and Kafka. With more threads they wake each other up for every message and every answer of the database,
// only to find nothing to do: with two on two cores, an order that came alone took a quarter longer. Payments does
// not have that effect, and settles large batches a quarter faster with all cores.
func serviceThreads(program string, cores int) int {
	if program == Payments {
		return cores
	}
	return max(1, cores/2)
}

// upstreams returns the URLs by which a gateway reaches the service's instances that serve its API.
func (s *Stack) upstreams(gateway, program string) []string {
	var urls []string
	for _, service := range s.opts.Services {
		if service.Program == program && !service.Worker {
			urls = append(urls, scheme(service)+s.routes[gateway].service(dialable(service.Addr)))
		}
	}
	return urls
}
