package connectclient_test

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
	"github.com/pgqueue/pgqueue/transport/connect/connectserver"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
)

// TestAdmin holds the operations on tokens and rights to their contract over each protocol.
func TestAdmin(t *testing.T) {
	for _, p := range protocols {
		t.Run(string(p), func(t *testing.T) {
			queuetest.TestAdmin(t, func(t *testing.T, principal *access.Principal) queuetest.AdminStack {
				t.Helper()
				tokens, audit := memory.NewTokens(nil), memory.NewAudit(nil)
				admin := access.NewAdmin(tokens, access.AdminOptions{Audit: access.NewAuditRecorder(access.AuditSettings{Log: audit})})
				s := newStack(t)
				s.principal = principal
				s.start(t, "127.0.0.1:0", connectserver.WithAdmin(admin))
				return queuetest.AdminStack{Admin: s.client(t, connectclient.WithProtocol(p)), Tokens: tokens, Audit: audit}
			})
		})
	}
}

func TestAServerWithoutTokensSaysSo(t *testing.T) {
	c := serve(t).client(t)
	_, err := c.WhoAmI(t.Context())
	if !errors.Is(err, queue.ErrNotFound) || err.Error() != queue.WithOp(queue.OpWhoAmI.String(), access.ErrNoAdmin).Error() {
		t.Error(err)
	}
}

// TestSecretsAreRedacted: printers of messages leave a secret out where they honour debug_redact.
func TestSecretsAreRedacted(t *testing.T) {
	found := 0
	messages := pb.File_pgqueue_v1_access_proto.Messages()
	for i := range messages.Len() {
		fields := messages.Get(i).Fields()
		for k := range fields.Len() {
			if fields.Get(k).Name() != "secret" {
				continue
			}
			found++
			if !isRedacted(fields.Get(k)) {
				t.Errorf("%s: must have debug_redact, got none", fields.Get(k).FullName())
			}
		}
	}
	if found != 1 {
		t.Errorf("%d fields have a secret, want that of the issued token alone", found)
	}
}

func isRedacted(f protoreflect.FieldDescriptor) bool {
	options, ok := f.Options().(*descriptorpb.FieldOptions)
	return ok && options.GetDebugRedact()
}
