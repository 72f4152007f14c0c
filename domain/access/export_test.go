package access

// Known returns the number of JWTs that a knows.
func (a *JWTAuthenticator) Known() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.known)
}

// NewCode returns a made-up one-time code.
func NewCode() Secret { return newSecret(codePrefix) }

// NewSessionSecret returns a made-up secret of a session.
func NewSessionSecret() Secret { return newSecret(sessionPrefix) }
