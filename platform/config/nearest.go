package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// nearest returns the known name that a misspelt one most likely stands for, or "" when none is near. A name is near
// when it differs by letter case alone, by at most two typing slips (letters left out, added, replaced or swapped;
// one slip in names of up to four letters), or when it abbreviates a known name that begins with the same word, as
// POSTGRES_PASS does.
func nearest(name string, known []string) string {
	best, least := "", 3
	if len(name) <= 4 {
		least = 2
	}
	for _, candidate := range known {
		distance := slips(strings.ToLower(name), strings.ToLower(candidate))
		if distance < least {
			best, least = candidate, distance
		}
	}
	if best != "" {
		return best
	}
	for _, candidate := range known {
		if abbreviates(name, candidate) {
			return candidate
		}
	}
	return ""
}

// slips is the number of typing slips between two names: the Damerau–Levenshtein distance (optimal string alignment).
func slips(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			changed := 1
			if a[i] == b[j] {
				changed = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+changed)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}

// abbreviates tells whether a variable's name is another one with letters left out behind the first word.
func abbreviates(name, full string) bool {
	word, rest, ok := strings.Cut(strings.ToUpper(name), "_")
	fullWord, fullRest, fullOK := strings.Cut(full, "_")
	if !ok || !fullOK || word != fullWord || len(rest) < 2 || rest[0] != fullRest[0] {
		return false
	}
	for _, letter := range fullRest {
		if rest != "" && rune(rest[0]) == letter {
			rest = rest[1:]
		}
	}
	return rest == ""
}

// didYouMean returns what to add to an error about an unknown name: the nearest known one, if any.
func didYouMean(name string, known []string) string {
	if near := nearest(name, known); near != "" {
		return fmt.Sprintf("; did you mean %s?", near)
	}
	return ""
}

// misspelt is a variable of the environment that nothing reads, and the one that it was probably meant to be.
type misspelt struct{ Name, Near string }

// nearMisses lists the variables of the environment that are nearly one of vars, but none of them.
func nearMisses(environ []string, vars []Variable) []misspelt {
	var known []string
	for _, v := range vars {
		if v.Name != "" {
			known = append(known, v.Name)
		}
	}
	var misses []misspelt
	for _, variable := range environ {
		name, _, _ := strings.Cut(variable, "=")
		if slices.Contains(known, name) {
			continue
		}
		if near := nearest(name, known); near != "" {
			misses = append(misses, misspelt{name, near})
		}
	}
	slices.SortFunc(misses, func(a, b misspelt) int { return cmp.Compare(a.Name, b.Name) })
	return misses
}
