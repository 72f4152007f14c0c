package httprun

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"
)

// Bounds of a secret by the Standard Webhooks scheme, in bytes.
const (
	minSecret = 24
	maxSecret = 64
)

// secretPrefix begins a secret of the scheme.
const secretPrefix = "whsec_"

// parseSecret decodes a secret in the form of the scheme: base64, with or without "whsec_" before it.
func parseSecret(s string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s, secretPrefix))
	if err != nil || len(key) < minSecret || len(key) > maxSecret {
		return nil, errors.New("must be whsec_ and the base64 of 24 to 64 bytes; make one with openssl rand -base64 32")
	}
	return key, nil
}

// signMessage returns the Webhook-Signature of a message. It has one signature per key, so that keys can be rotated.
func signMessage(keys [][]byte, id string, at time.Time, body []byte) string {
	var b strings.Builder
	for i, key := range keys {
		if i > 0 {
			b.WriteByte(' ')
		}
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + strconv.FormatInt(at.Unix(), 10) + "."))
		mac.Write(body)
		b.WriteString("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return b.String()
}
