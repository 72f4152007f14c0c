// Package oidctest has an issuer of JWTs for tests, on a port of this machine.
//
// [Start] serves discovery, keys, and the authorization code flow with PKCE. A test mints JWTs with any header, claims and
// key, changes the keys, counts the requests, and takes the issuer down:
//
//	issuer := oidctest.Start(t)
//	token := issuer.Mint(issuer.Claims("pgqueue", "alice"))
//	issuer.Rotate(oidctest.RS256)
//	issuer.SetDown(true)
//
// It is for tests alone: each failure ends the test.
package oidctest
