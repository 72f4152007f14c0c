#!/bin/sh
# Runs after the files of a package are in place: of a new installation and of an upgrade, on deb, rpm and apk.
set -e

if ! getent group pgqueue >/dev/null; then
	if command -v groupadd >/dev/null; then groupadd --system pgqueue; else addgroup -S pgqueue; fi
fi
if ! getent passwd pgqueue >/dev/null; then
	if command -v useradd >/dev/null; then
		useradd --system --gid pgqueue --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin --comment "pgqueue programs" pgqueue
	else
		adduser -S -D -H -h /nonexistent -s /sbin/nologin -G pgqueue -g "pgqueue programs" pgqueue
	fi
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
		# Without its database a service does not start; the package is in place all the same.
		systemctl "$start" "$unit" || echo "pgqueue: $unit does not start; see: systemctl status $unit"
	done
fi

case "$1" in
1 | configure) [ -n "$2" ] || echo "pgqueue: set the database in /etc/pgqueue/server.env, then: systemctl enable --now pgqueue-server" ;;
esac
