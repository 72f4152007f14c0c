package seal

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
)

// version is the version of the envelope.
const version = 1

// MaxKeyIDBytes bounds the name of a key.
const MaxKeyIDBytes = 255

// sealedPrefix begins every envelope of this codec.
const sealedPrefix = `{"$enc":`

// encoding is that of the bytes. Strict refuses a second spelling of the same bytes.
var encoding = base64.StdEncoding.Strict()

// appendEnvelope appends an envelope. head holds its part before the nonce.
func appendEnvelope(head, nonce, ciphertext []byte) json.RawMessage {
	// 32 holds the names and quotes of the two members n and ct and the closing braces.
	b := make([]byte, 0, len(head)+encoding.EncodedLen(len(nonce))+encoding.EncodedLen(len(ciphertext))+32)
	b = append(b, head...)
	b = append(b, `"n":"`...)
	b = encoding.AppendEncode(b, nonce)
	b = append(b, `","ct":"`...)
	b = encoding.AppendEncode(b, ciphertext)
	return append(b, `"}}`...)
}

// envelopeHead returns the part of an envelope that all payloads with one data key share.
func envelopeHead(kid string, wrapped []byte) []byte {
	b := append([]byte(sealedPrefix), `{"v":1,"kid":"`...)
	b = append(b, kid...)
	b = append(b, `","dek":"`...)
	b = encoding.AppendEncode(b, wrapped)
	return append(b, `",`...)
}

// isSealed reports whether JSON is an object with the member $enc alone, in whatever order and spacing.
func isSealed(b json.RawMessage) bool {
	if bytes.HasPrefix(b, []byte(sealedPrefix)) {
		return true
	}
	// Most payloads end here, without the cost of a parse.
	if !bytes.Contains(b, []byte("$enc")) {
		return false
	}
	var members map[string]json.RawMessage
	return json.Unmarshal(b, &members) == nil && len(members) == 1 && members["$enc"] != nil
}

// The fields of an envelope, still encoded.
type fields struct{ kid, wrapped, nonce, ciphertext []byte }

var errEnvelope = errors.New("not an envelope")

// parseEnvelope reads an envelope and checks all but the bytes of its fields. It reads the form of appendEnvelope without a
// parser; a store of jsonb changes the order of members and the spacing, which the parser reads.
func parseEnvelope(b json.RawMessage) (f fields, err error) {
	if !splitEnvelope(b, &f) {
		if f, err = decodeEnvelope(b); err != nil {
			return fields{}, err
		}
	}
	if !isKeyID(f.kid) || len(f.wrapped) == 0 || len(f.nonce) != encoding.EncodedLen(nonceBytes) {
		return fields{}, errEnvelope
	}
	for _, field := range [...][]byte{f.wrapped, f.nonce, f.ciphertext} {
		if bytes.IndexByte(field, '\n') >= 0 || bytes.IndexByte(field, '\r') >= 0 { // the decoder skips them
			return f, errEnvelope
		}
	}
	return f, nil
}

// splitEnvelope reads an envelope in the form of appendEnvelope, without escapes.
func splitEnvelope(b []byte, f *fields) (ok bool) {
	rest, ok := bytes.CutPrefix(b, []byte(sealedPrefix+`{"v":1,"kid":"`))
	if !ok || bytes.IndexByte(rest, '\\') >= 0 {
		return false
	}
	if rest, ok = bytes.CutSuffix(rest, []byte(`"}}`)); !ok {
		return false
	}
	if f.kid, rest, ok = bytes.Cut(rest, []byte(`","dek":"`)); !ok {
		return false
	}
	if f.wrapped, rest, ok = bytes.Cut(rest, []byte(`","n":"`)); !ok {
		return false
	}
	f.nonce, f.ciphertext, ok = bytes.Cut(rest, []byte(`","ct":"`))
	return ok
}

// decodeEnvelope reads an envelope in any order and spacing. It refuses other members, and other spellings of their names.
func decodeEnvelope(b json.RawMessage) (f fields, err error) {
	var outer, inner map[string]json.RawMessage
	if json.Unmarshal(b, &outer) != nil || len(outer) != 1 || json.Unmarshal(outer["$enc"], &inner) != nil || len(inner) != 5 {
		return f, errEnvelope
	}
	if string(inner["v"]) != "1" {
		return f, errEnvelope
	}
	for name, into := range map[string]*[]byte{"kid": &f.kid, "dek": &f.wrapped, "n": &f.nonce, "ct": &f.ciphertext} {
		var text *string
		if json.Unmarshal(inner[name], &text) != nil || text == nil {
			return f, errEnvelope
		}
		*into = []byte(*text)
	}
	return f, nil
}

// isKeyID reports whether s may name a key: 1 to 255 bytes of visible ASCII that JSON shows as they are.
func isKeyID[T string | []byte](s T) bool {
	if len(s) == 0 || len(s) > MaxKeyIDBytes {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
