package postgres

import "github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"

// Setting is one setting of PostgreSQL that a role or a database may have.
type Setting = txn.Setting

// The classes of settings.
const (
	// SettingStated is a setting that our connections set themselves.
	SettingStated = txn.SettingStated
	// SettingHarmless is a setting without influence on any promise.
	SettingHarmless = txn.SettingHarmless
	// SettingRefused is a setting that makes calls fail until it is changed. Ping and doctor name it.
	SettingRefused = txn.SettingRefused
)

// Settings returns all settings that a role or a database may carry, with the answer of this package. Tools and tests
// compare them with those of a server.
func Settings() []Setting { return txn.Settings() }

// WaitHelps reports whether a program that gets err at its start should wait for the database. It returns true for a
// database that is starting or unreachable. It returns false for an answer that needs the operator: a missing role or
// database, or a pooler in place of PostgreSQL.
func WaitHelps(err error) bool { return txn.WaitHelps(err) }
