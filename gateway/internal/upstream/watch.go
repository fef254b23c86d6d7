package upstream

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"time"
)

const (
	// lookEvery is how often the instances are asked. One that has become unready gets requests for at most this long.
	lookEvery   = time.Second
	lookTimeout = time.Second
	// maxInstances bounds the addresses of one host name.
	maxInstances = 64
)

// Watch keeps finding the instances and asking which of them are ready, until ctx ends.
func (u *Upstream) Watch(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		u.look(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// look finds the instances and asks each whether it is ready. A single one is not asked: it gets all requests anyway.
func (u *Upstream) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	present := *u.addresses.Load()
	found := u.find(ctx, present)
	var probes sync.WaitGroup
	for _, a := range found {
		probes.Go(func() {
			var err error
			if len(found) > 1 {
				err = u.probe(ctx, a)
			}
			switch unready := err != nil; {
			case a.unready.Swap(unready) == unready:
			case unready:
				u.logger.Warn("instance is not ready: the others get its requests",
					"upstream", u.name, "address", a.target, "error", err)
			default:
				u.logger.Info("instance is ready again", "upstream", u.name, "address", a.target)
			}
		})
	}
	probes.Wait()
	u.addresses.Store(&found)
}

// find returns an address for each instance: the present one, or a new one.
func (u *Upstream) find(ctx context.Context, present []*address) (found []*address) {
	for _, b := range u.bases {
		of := slices.DeleteFunc(slices.Clone(present), func(a *address) bool { return a.base != b })
		targets := u.targets(ctx, b.scheme, b.host)
		if targets == nil { // Nothing better is known.
			found = append(found, of...)
		}
		for _, target := range targets {
			i := slices.IndexFunc(of, func(a *address) bool { return a.target == target })
			if i >= 0 {
				found = append(found, of[i])
				continue
			}
			found = append(found, &address{base: b, target: target})
		}
	}
	return found
}

// targets returns the addresses of a host name, with the port. It is nil when they are not known.
func (u *Upstream) targets(ctx context.Context, scheme, host string) (targets []string) {
	base := &url.URL{Host: host}
	if _, err := netip.ParseAddr(base.Hostname()); err == nil {
		return nil
	}
	addrs, err := u.lookup(ctx, "ip", base.Hostname())
	if err != nil {
		return nil
	}
	port := cmp.Or(base.Port(), map[string]string{"http": "80", "https": "443"}[scheme])
	for _, addr := range addrs {
		targets = append(targets, net.JoinHostPort(addr.Unmap().String(), port))
	}
	slices.Sort(targets)
	targets = slices.Compact(targets)
	return targets[:min(len(targets), maxInstances)]
}
