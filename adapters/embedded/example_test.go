package embedded_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/pgqueue/pgqueue/adapters/embedded"
)

// A server for a test leaves no files and does not wait for the disk.
func ExampleStart() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	server, err := embedded.Start(ctx, embedded.WithTemporary(), embedded.WithSetting("fsync", "off"))
	if err != nil {
		log.Print(err)
		return
	}
	defer func() {
		if err := server.Stop(context.WithoutCancel(ctx)); err != nil {
			log.Print(err)
		}
	}()
	fmt.Println("connect with", server.DSN())
}
