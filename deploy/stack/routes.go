package stack

import (
	"cmp"
	"errors"
	"fmt"
	"net"

	"github.com/altyn-pay/altyn/testkit/localkafka"
)

// routes are the addresses by which an instance of a service reaches other parts, where Options.Link names them.
type routes struct {
	postgres string
	brokers  []string
	services map[string]string // by their own addresses
}

// OtherBrokers are, for Options.Link, the brokers that copy what another one has.
const OtherBrokers = "brokers"

// findRoutes asks Options.Link for the addresses of all pairs. For each instance of a service each broker gets a
// listener of its own, since a broker tells its clients itself where it is to be reached.
func (s *Stack) findRoutes() error {
	s.routes = make(map[string]routes)
	s.listeners = make(map[string][]localkafka.Listener)
	if s.opts.Link == nil {
		return nil
	}
	var errs []error
	link := func(from, to, addr string) string {
		by, err := s.opts.Link(from, to, addr)
		errs = append(errs, err)
		return by
	}
	listen := func(from, broker string) (by string) {
		port, err := FreePort()
		errs = append(errs, err)
		by = link(from, broker, loopbackAddr(port))
		s.listeners[broker] = append(s.listeners[broker], localkafka.Listener{
			Port: port, Advertised: by, Brokers: from == OtherBrokers})
		return by
	}
	for _, service := range s.opts.Services {
		var r routes
		switch service.Program {
		case Gateway:
			r.services = make(map[string]string)
			for _, other := range s.opts.Services {
				if other.Program == Orders || other.Program == Payments {
					addr := dialable(other.Addr)
					r.services[addr] = link(service.Name, other.Name, addr)
				}
			}
		case Orders, Payments:
			r.postgres = link(service.Name, PostgresName, s.postgres.Address())
			if s.opts.Kafka.Kind != localkafka.Apache {
				break
			}
			for _, broker := range Brokers(s.opts.Kafka) {
				r.brokers = append(r.brokers, listen(service.Name, broker))
			}
		}
		s.routes[service.Name] = r
	}
	if brokers := Brokers(s.opts.Kafka); len(brokers) > 1 {
		for _, broker := range brokers {
			listen(OtherBrokers, broker)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("links between the parts: %w", err)
	}
	return nil
}

// environment are the variables that name them.
func (r routes) environment() (env []string) {
	if r.postgres != "" {
		host, port, _ := net.SplitHostPort(r.postgres) // if it is none, the service will say so
		env = append(env, "POSTGRES_HOST="+host, "POSTGRES_PORT="+port)
	}
	if len(r.brokers) > 0 {
		env = append(env, brokersVariable(r.brokers))
	}
	return env
}

// service is the address by which the service at addr is reached.
func (r routes) service(addr string) string { return cmp.Or(r.services[addr], addr) }
