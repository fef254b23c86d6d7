package faults

import (
	"testing"

	"github.com/anishathalye/porcupine"
)

// op is an operation of a history, from one time to another.
func op(from, to int64, input, output any) porcupine.Operation {
	return porcupine.Operation{Input: input, Call: from, Output: output, Return: to}
}

func TestHistoriesOfAccounts(t *testing.T) {
	deposit := move{what: "deposit", by: only(0, 100, 0)}
	withdrawal := move{what: "withdrawal", needs: 100, by: only(0, -100, 0)}
	balance := func(actual int64) (move, moved) {
		return move{balance: true}, moved{balance: purse{actual, 0}}
	}
	hundred, has100 := balance(100)
	nothing, has0 := balance(0)
	for name, test := range map[string]struct {
		right bool
		ops   []porcupine.Operation
	}{
		"one after another": {true, []porcupine.Operation{
			op(1, 2, deposit, moved{}), op(3, 4, hundred, has100), op(5, 6, withdrawal, moved{}), op(7, 8, nothing, has0)}},
		"at the same time": {true, []porcupine.Operation{
			op(1, 9, deposit, moved{}), op(2, 3, nothing, has0), op(4, 5, hundred, has100)}},
		"a deposit is lost": {false, []porcupine.Operation{op(1, 2, deposit, moved{}), op(3, 4, nothing, has0)}},
		"a deposit counts twice": {false, []porcupine.Operation{op(1, 2, deposit, moved{}), op(3, 4, hundred, moved{
			balance: purse{200, 0}})}},
		"money is taken twice": {false, []porcupine.Operation{
			op(1, 2, deposit, moved{}), op(3, 6, withdrawal, moved{}), op(4, 5, withdrawal, moved{})}},
		"refused although there is enough": {false, []porcupine.Operation{
			op(1, 2, deposit, moved{}), op(3, 4, withdrawal, moved{refused: true})}},
		"what was seen is gone again": {false, []porcupine.Operation{
			op(1, 9, deposit, moved{}), op(2, 3, hundred, has100), op(4, 5, nothing, has0)}},
	} {
		if err := (&History{ops: test.ops}).check(accounts); (err == nil) != test.right {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHistoriesOfOrders(t *testing.T) {
	for name, test := range map[string]struct {
		right bool
		ops   []porcupine.Operation
	}{
		"paid": {true, []porcupine.Operation{
			op(1, 2, place, told("pending")), op(3, 4, look, told("pending")), op(5, 6, look, told("paid"))}},
		"confirmed": {true, []porcupine.Operation{
			op(1, 2, place, told("pending")), op(3, 4, look, told("authorized")), op(5, 9, confirm, told("")),
			op(6, 7, look, told("paid"))}},
		"cancelled": {true, []porcupine.Operation{
			op(1, 2, place, told("pending")), op(3, 4, cancel, told("cancelling")), op(5, 6, look, told("cancelled"))}},
		"confirmed by nobody": {false, []porcupine.Operation{
			op(1, 2, place, told("pending")), op(3, 4, look, told("authorized")), op(5, 6, look, told("paid"))}},
		"cancelled before it was asked for": {false, []porcupine.Operation{
			op(1, 2, place, told("pending")), op(3, 4, look, told("cancelled")), op(5, 6, cancel, told("cancelling"))}},
		"back again": {false, []porcupine.Operation{
			op(1, 2, place, told("pending")), op(3, 4, look, told("paid")), op(5, 6, look, told("pending"))}},
		"lost": {false, []porcupine.Operation{
			op(1, 2, place, told("pending")), op(3, 4, look, told("failed")), op(5, 6, look, told("paid"))}},
	} {
		if err := (&History{ops: test.ops}).check(orders); (err == nil) != test.right {
			t.Errorf("%s: %v", name, err)
		}
	}
}
