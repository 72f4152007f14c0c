#!/bin/sh
# Runs before the files of a package go. Its argument is "remove" on deb and 0 on rpm when no newer version follows; apk gives
# none, because its upgrades do not run this script.
set -e

case "${1:-0}" in
remove)
	# The links of enabled services stay until purge, so that the package can come back.
	if [ -d /run/systemd/system ]; then systemctl stop pgqueue-server.service pgqueue-worker.service; fi
	;;
0 | [0-9]*.*)
	if [ -d /run/systemd/system ]; then
		systemctl disable --now pgqueue-server.service pgqueue-worker.service
	else
		rm -f /etc/systemd/system/*.wants/pgqueue-server.service /etc/systemd/system/*.wants/pgqueue-worker.service
	fi
	;;
esac
