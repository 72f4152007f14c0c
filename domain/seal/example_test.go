package seal_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/seal"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// kmsClient is the part of the client of a key management service that wraps.
type kmsClient interface {
	Encrypt(ctx context.Context, keyID string, text []byte) ([]byte, error)
	Decrypt(ctx context.Context, keyID string, text []byte) ([]byte, error)
}

// kmsKeys wraps data keys with a key that never leaves the service. A codec calls it about once an hour.
type kmsKeys struct {
	client kmsClient
	// present is the key for new payloads. All keys with the prefix of the application unwrap.
	present, prefix string
}

// Wrap implements seal.KeyWrapper.
func (k kmsKeys) Wrap(ctx context.Context, dataKey []byte) (string, []byte, error) {
	wrapped, err := k.client.Encrypt(ctx, k.present, dataKey)
	return k.present, wrapped, err
}

// Unwrap implements seal.KeyWrapper. It asks the service for keys of this application alone: the name comes from the payload.
func (k kmsKeys) Unwrap(ctx context.Context, kid string, wrapped []byte) ([]byte, error) {
	if !strings.HasPrefix(kid, k.prefix) {
		return nil, seal.ErrUnknownKey
	}
	return k.client.Decrypt(ctx, kid, wrapped)
}

// pretendKMS stands for a service.
type pretendKMS struct{}

func (pretendKMS) Encrypt(_ context.Context, _ string, text []byte) ([]byte, error) {
	return append([]byte("wrapped "), text...), nil
}

func (pretendKMS) Decrypt(_ context.Context, _ string, text []byte) ([]byte, error) {
	return append([]byte(nil), text[len("wrapped "):]...), nil
}

// A key management service wraps the data keys.
func Example() {
	codec := seal.New(kmsKeys{client: pretendKMS{}, present: "app/2026-11", prefix: "app/"})
	svc := codec.Service(&fakeService{}) // the manager, or a client of a server
	task, err := svc.CreateTask(context.Background(), "mail", queue.TaskMeta{Payload: json.RawMessage(`{"to":"ann@example.com"}`)})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s\n", task.Payload)

	handler := codec.Handler(worker.Typed(func(_ context.Context, mail struct{ To string }) (struct{}, error) {
		fmt.Println("to", mail.To)
		return struct{}{}, nil
	}))
	sealed, err := codec.Seal(context.Background(), seal.Place{Namespace: "default", Queue: "mail", Purpose: seal.PurposePayload}, task.Payload)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(worker.Work(context.Background(), handler, &queue.Task{Namespace: "default", Queue: "mail", Payload: sealed}).Outcome)
	// Output:
	// {"to":"ann@example.com"}
	// to ann@example.com
	// success
}
