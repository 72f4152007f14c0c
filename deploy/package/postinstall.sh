#!/bin/sh
# Runs after the files of a package are in place: of a new installation and of an upgrade, on deb, rpm and apk.
set -e
upgrade= # what an upgrade says

# The files "group" and "user" in this folder mean that the package made them. A removal leaves those of the operator.
made=/var/lib/pgqueue
if ! getent group pgqueue >/dev/null; then
	if command -v groupadd >/dev/null; then groupadd --system pgqueue; else addgroup -S pgqueue; fi
	mkdir -p "$made"
	: >"$made/group"
fi
if ! getent passwd pgqueue >/dev/null; then
	if command -v useradd >/dev/null; then
		useradd --system --gid pgqueue --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin --comment "pgqueue programs" pgqueue
	else
		adduser -S -D -H -h /nonexistent -s /sbin/nologin -G pgqueue -g "pgqueue programs" pgqueue
	fi
	mkdir -p "$made"
	: >"$made/user"
fi

# systemd reads these files as root, and a program that is started by hand as the user of the package reads them too.
chgrp pgqueue /etc/pgqueue /etc/pgqueue/server.env /etc/pgqueue/worker.env /etc/pgqueue/worker.yaml
chmod 0750 /etc/pgqueue

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	# An upgrade starts the running services again, with their new programs. On deb, a package that comes back after its removal
	# finds its services still enabled, and starts them.
	for unit in pgqueue-server.service pgqueue-worker.service; do
		start=try-restart
		if systemctl --quiet is-enabled "$unit"; then start=restart; fi
		# A service without its database tries for 30 s to start, so nothing waits for it.
		systemctl --no-block "$start" "$unit" || echo "pgqueue: $unit does not start; see: systemctl status $unit"
	done
	upgrade="pgqueue: services that run start again in the background; without their database they try on: systemctl status pgqueue-server"
fi

case "$1" in
1 | configure)
	if [ -z "$2" ]; then
		echo "pgqueue: set the database in /etc/pgqueue/server.env, then: systemctl enable --now pgqueue-server"
		upgrade=
	fi
	;;
esac
[ -z "$upgrade" ] || echo "$upgrade"
