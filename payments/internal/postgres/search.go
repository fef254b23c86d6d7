package postgres

import (
	"cmp"
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/chain"
)

// search finds the differences in some groups of rows.
func (c *comparison) search(ctx context.Context, sums *chain.Sums, groups []int) ([]Difference, error) {
	wanted := make(map[int]bool, len(groups))
	for _, group := range groups {
		wanted[group] = true
	}
	searchers := make([]*searcher, len(c.txs))
	if err := c.run(ctx, func(worker int) sink {
		searchers[worker] = &searcher{sums: sums, groups: wanted, found: make(map[chain.Key]*finding)}
		return searchers[worker]
	}); err != nil {
		return nil, err
	}
	all := searchers[0].found
	for _, s := range searchers[1:] {
		for key, f := range s.found {
			if known := all[key]; known != nil {
				known.merge(f)
			} else {
				all[key] = f
			}
		}
	}
	return differences(all), nil
}

// finding is a state of a row, and how much more often it was added than removed.
type finding struct {
	item chain.Item
	n    int
	link int64 // that has added it
	name string
}

func (f *finding) merge(other *finding) {
	f.n += other.n
	if f.link == 0 || other.link != 0 && other.link < f.link {
		f.link = other.link
	}
	f.name = cmp.Or(f.name, other.name)
}

// searcher is the sink that collects the items and rows of some groups.
type searcher struct {
	sums   *chain.Sums
	groups map[int]bool
	found  map[chain.Key]*finding
	number int64 // of the link whose items are added
}

func (s *searcher) link(l chain.Link) { s.number = l.Number }

func (s *searcher) add(i chain.Item) {
	f := finding{item: i, n: 1}
	if i.Kind != chain.Balance && i.Kind != chain.Wait {
		f.link = s.number
	}
	if i.Gone {
		f.n, f.link = -1, 0
	}
	s.note(f, nil)
}

func (s *searcher) remove(i chain.Item, name func() string) { s.note(finding{item: i, n: -1}, name) }

func (s *searcher) note(f finding, name func() string) {
	if !s.groups[s.sums.Group(f.item)] {
		return
	}
	if name != nil {
		f.name = name()
	}
	key := f.item.Key()
	if known := s.found[key]; known != nil {
		known.merge(&f)
	} else {
		s.found[key] = &f
	}
}

func (s *searcher) wrong(Difference) {}

// differences makes one difference of all that is left of a row.
func differences(found map[chain.Key]*finding) (all []Difference) {
	type row struct {
		kind chain.Kind
		id   uuid.UUID
	}
	missing, extra := make(map[row][]*finding), make(map[row][]*finding)
	for _, f := range found {
		switch r := (row{f.item.Kind, f.item.ID}); {
		case f.n > 0:
			missing[r] = append(missing[r], f)
		case f.n < 0:
			extra[r] = append(extra[r], f)
		}
	}
	difference := func(f *finding, what string) Difference {
		d := Difference{Table: f.item.Kind.Table(), ID: f.item.ID.String(), What: what, Link: f.link}
		switch {
		case f.item.Kind == chain.Entry && f.name != "":
			d.ID = f.name + ", of operation " + d.ID
		case f.item.Kind == chain.Entry:
			d.ID = "of operation " + d.ID
		case f.name != "":
			d.ID += " " + f.name
		}
		return d
	}
	for r, list := range missing {
		slices.SortFunc(list, func(a, b *finding) int { return cmp.Compare(a.link, b.link) })
		others := extra[r]
		for i, f := range list {
			what := Missing
			if i < len(others) {
				f.name = cmp.Or(f.name, others[i].name)
				what = "is not as it was written"
			}
			all = append(all, difference(f, what))
		}
		extra[r] = others[min(len(list), len(others)):]
	}
	for _, list := range extra {
		for _, f := range list {
			all = append(all, difference(f, "was not written by the settlement"))
		}
	}
	return all
}
