package main

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Each client of batches has 100 operations under way.
const operationBatchClients = 16

const amount = `"amount":"1.00","currency":"RUB"`

// runOperations makes one deposit per request, over all accounts.
func runOperations(ctx context.Context, s *site, duration time.Duration) (outcome, error) {
	return s.deposit(ctx, duration, s.accounts)
}

// runHotOperations makes all deposits on one account.
func runHotOperations(ctx context.Context, s *site, duration time.Duration) (outcome, error) {
	return s.deposit(ctx, duration, s.accounts[:1])
}

func (s *site) deposit(ctx context.Context, duration time.Duration,
	accounts []uuid.UUID) (outcome, error) {
	return s.operate(ctx, clients, duration, func(i int) (string, []byte, int) {
		return "/api/v1/accounts/" + accounts[i%len(accounts)].String() + "/deposits", []byte(`{` + amount + `}`), 1
	})
}

// runOperationBatches makes 100 deposits per request.
func runOperationBatches(ctx context.Context, s *site, duration time.Duration) (outcome, error) {
	return s.operate(ctx, operationBatchClients, duration, func(i int) (string, []byte, int) {
		return "/api/v1/operations/batch", batch("operations", batchOf, func(n int) string {
			return fmt.Sprintf(`{"operation":"deposit","account_id":"%s",%s}`, s.account(i*batchOf+n), amount)
		}), batchOf
	})
}

// operate makes requests in a closed loop. Each is answered when all its operations are settled.
func (s *site) operate(ctx context.Context, clients int, duration time.Duration,
	request func(i int) (path string, body []byte, n int)) (outcome, error) {
	begin := time.Now()
	operations, err := closedLoop(ctx, clients, duration, func(i int) (int, error) {
		path, body, n := request(i)
		var answer []byte
		if err := s.payments.Call("POST", path+"?wait=30s", "", body, &answer); err != nil {
			return 0, err
		}
		return n, succeeded(answer, n)
	})
	return outcome{operations: operations, took: time.Since(begin)}, err
}

// succeeded checks that an answer or a reply tells of n successful operations. It only counts, because decoding every
// answer would cost as much as making it.
func succeeded(answer []byte, n int) error {
	if bytes.Count(answer, []byte(`"status":"success"`)) < n {
		return fmt.Errorf("not %d operations succeeded: %.300s", n, answer)
	}
	return nil
}
