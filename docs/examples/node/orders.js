// Creates a task in the transaction of its order, with the driver pg, and works it over REST:
//
//	npm install && node orders.js postgres://… http://localhost:8080/api
import pg from "pg";

const [database, api = "http://localhost:8080/api"] = process.argv.slice(2);

async function call(method, path, body) {
	const answer = await fetch(api + path, {
		method, body: body && JSON.stringify(body), headers: { "Content-Type": "application/json" }, signal: AbortSignal.timeout(60_000),
	});
	const text = await answer.text();
	if (!answer.ok && answer.status !== 409) {
		throw new Error(`${method} ${path}: ${answer.status} ${text}`);
	}
	return text && JSON.parse(text);
}

await call("POST", "/queue", { queue: "node-mail", retries: 5 }); // 409 = it exists

const client = new pg.Client({ connectionString: database });
await client.connect();
await client.query("create table if not exists node_orders (id bigint primary key, email text not null)");
try {
	await client.query("begin");
	await client.query("insert into node_orders values ($1, $2) on conflict do nothing", [17, "ann@example.org"]);
	await client.query("select pgqueue.create_task($1, $2, key => $3)", ["node-mail", JSON.stringify({ order: 17 }), "order-17"]);
	await client.query("commit");
} catch (err) {
	await client.query("rollback");
	throw err;
}

// The end of the task commits with its effect.
const [task] = (await call("PUT", "/task/node-mail?worker=node&limit=1&wait=5s")).body;
if (task) {
	await client.query("begin");
	await client.query("update node_orders set email = '' where id = $1", [task.payload.order]);
	await client.query("select pgqueue.complete_task($1, $2, $3)", [task.id, task.lease.token, JSON.stringify({ sent: true })]);
	await client.query("commit");
	console.log(JSON.stringify(await call("GET", `/task/${task.id}`)));
} else {
	console.log("no task"); // with a limit the answer is a list; without one 404 means this
}
await client.end();
