package postgres

// Statements returns all SQL statements of the adapter by name, as written for schema. Tools and tests use it, for
// example to explain or prepare each statement.
func Statements(schema string) map[string]string {
	return loadStatements(schema).All()
}
