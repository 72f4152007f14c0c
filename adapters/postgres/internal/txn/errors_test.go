package txn

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// TestABrokenConnectionIsKnownByItsType: the text of another error may have the same words, as when it shows a value.
func TestABrokenConnectionIsKnownByItsType(t *testing.T) {
	for _, cause := range []error{
		io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, pgconn.ErrConnClosed, syscall.EPIPE, syscall.ECONNRESET,
		&net.OpError{Op: "read", Err: errors.New("timeout")},
	} {
		if err := fmt.Errorf("receive message: %w", cause); !IsTransient(err) {
			t.Errorf("%v: the call is not repeated", err)
		}
		if err := fmt.Errorf("encode argument: %v", cause); IsTransient(err) { //nolint:errorlint // the text alone
			t.Errorf("%v: the text alone makes the call repeat", err)
		}
	}
}
