// Package oidc verifies JWTs of OpenID Connect issuers, which machines present in place of a token of pgqueue: service
// accounts of Kubernetes, jobs of a build server, programs with an account at an identity provider.
//
// A [Verifier] holds the trusted issuers. [Verifier.Verify] returns the proved identity of a JWT, an [access.Proof], or an
// error of KindUnauthenticated; KindUnavailable while the keys of its issuer are unknown because the issuer does not answer.
// Grants are not part of it: the rules of [access.Mapping] give them.
//
// # Rules
//
// A JWT is at most [MaxTokenBytes] long, has a signature of an asymmetric algorithm by a key that its issuer publishes, exactly
// one of the trusted issuers as iss, the audience of that issuer in aud, and a lifetime of at most [MaxLifetime] from iat to
// exp. Headers that name keys, as jku, jwk and x5u, have no effect. A header or a claim that occurs twice is refused, as is
// crit.
//
// # Keys
//
// Keys are fetched when a JWT first needs them, so an issuer that is down does not stop a server. They are fetched again
// when they are older than [KeyAge], and when a signature fits none of them, but once in [AskInterval] at most: made-up JWTs
// do not become a flood of requests. While the issuer does not answer, its last keys stay valid.
package oidc
