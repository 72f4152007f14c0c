// Package input declares the parts of requests that several REST operations share: parameters, with their limits as
// tags, and JSON bodies.
//
// Operations embed the structs and use the types in their own input structs. huma reads the tags, binds the values
// and describes them in OpenAPI, so that the description follows from the code that runs. The domain defines the
// limits and checks each value from every transport.
package input
