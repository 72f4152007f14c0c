// Runs transactions in SQL with the driver pg. It reads a JSON array of transactions, each a list of statements {text, values} and
// an end: "commit", or "rollback" first and then all again with a commit. It writes what each came to: the first value of its last
// statement, or the SQLSTATE, and whether the rollback left the same failure or success.
import pg from "pg";

const input = [];
for await (const chunk of process.stdin) {
	input.push(chunk);
}

const client = new pg.Client({ connectionString: process.argv[2] });
await client.connect();

async function transact(statements, end) {
	try {
		await client.query("begin");
		let value = null;
		for (const { text, values } of statements) {
			const { rows } = await client.query(text, values);
			value = rows.length ? String(Object.values(rows[0])[0]) : null;
		}
		await client.query(end);
		return { value };
	} catch (err) {
		await client.query("rollback");
		return { state: err.code, message: err.message };
	}
}

const answers = [];
for (const { statements, end } of JSON.parse(Buffer.concat(input).toString())) {
	const undone = end === "rollback" ? await transact(statements, "rollback") : null;
	answers.push({ ...(await transact(statements, "commit")), undone: undone?.value ?? "" });
}
await client.end();
process.stdout.write(JSON.stringify(answers));
