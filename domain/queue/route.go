package queue

import "context"

// RoutedStore has the methods of a [Store] that concern one namespace; routed.go has them. A Store over several stores embeds
// it and writes the others itself.
type RoutedStore struct {
	run func(ctx context.Context, namespace string, do func(Store) error) error
}

// RouteStore returns a RoutedStore that passes each call through run. run calls do with the store of the namespace, once at most.
func RouteStore(run func(ctx context.Context, namespace string, do func(Store) error) error) RoutedStore {
	return RoutedStore{run}
}
