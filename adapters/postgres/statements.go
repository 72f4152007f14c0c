package postgres

// Statements are all SQL statements that the adapter sends, by name, as written for schema. It is for tools and tests
// that look at them, such as one that explains or prepares each.
func Statements(schema string) map[string]string { return loadStatements(schema).All() }
