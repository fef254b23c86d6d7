package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

// IsUnavailable reports whether the database could not be reached, was lost, or cannot work at all for now (starting,
// stopping, out of connections, disk or memory, read-only after a failover). The same request will work later.
// IsOutcomeUnknown tells whether the transaction may have been committed.
func IsUnavailable(err error) bool {
	var network *net.OpError
	switch {
	case err == nil:
		return false
	// lib/pq gives driver.ErrBadConn for every connection that ended, whatever the server said last.
	case errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, net.ErrClosed), errors.As(err, &network):
		return true
	}
	pqErr := pq.As(err)
	if pqErr == nil {
		return false
	}
	switch pqErr.Code.Class() {
	case pqerror.ClassConnectionException, pqerror.ClassInsufficientResources, pqerror.ClassSystemError:
		return true
	}
	switch pqErr.Code {
	case pqerror.AdminShutdown, pqerror.CrashShutdown, pqerror.CannotConnectNow,
		pqerror.IdleSessionTimeout, pqerror.IdleInTransactionSessionTimeout,
		pqerror.ReadOnlySQLTransaction:
		return true
	}
	return false
}

// IsTransient reports whether the same work may succeed when it is tried again, because it failed for the database's
// state and not for what was asked: the database is unavailable (see IsUnavailable), a serialization failure or
// deadlock, a lock or a result that did not come in time. A cancelled context is not transient: whoever asked has
// left.
func IsTransient(err error) bool {
	return IsUnavailable(err) ||
		IsOutcomeUnknown(err) ||
		isConflict(err) ||
		errors.Is(err, context.DeadlineExceeded) ||
		pq.As(err, pqerror.LockNotAvailable, pqerror.QueryCanceled) != nil
}

// isConflict reports whether the transaction lost against concurrent ones, or against a change of the tables. It has
// been rolled back.
func isConflict(err error) bool {
	return isStaleStatement(err) || pq.As(err, pqerror.TRSerializationFailure, pqerror.TRDeadlockDetected) != nil
}

// Storable turns a text of any origin, such as an error's, into one that PostgreSQL takes: UTF-8 without U+0000.
func Storable(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}
