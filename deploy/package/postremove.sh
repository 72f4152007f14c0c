#!/bin/sh
# Runs after the files of a package are gone. On deb, "purge" removes the settings, and the user and the group that the package has
# made; a mere "remove" keeps them. rpm and apk have no purge: 0 and no argument mean that no newer version follows, and edited
# settings stay.
set -e

if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi

case "${1:-0}" in
purge)
	rm -rf /etc/pgqueue
	rm -f /etc/systemd/system/*.wants/pgqueue-server.service /etc/systemd/system/*.wants/pgqueue-worker.service
	rmdir /etc/systemd/system/multi-user.target.wants 2>/dev/null || true # not empty: the links of other services
	if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
	;;
0 | [0-9]*.*) ;;
*) exit 0 ;;
esac

# A user and a group that were there before the package are those of the operator.
made=/var/lib/pgqueue
if [ -e "$made/user" ] && getent passwd pgqueue >/dev/null; then
	if command -v userdel >/dev/null; then userdel pgqueue; else deluser pgqueue; fi
fi
if [ -e "$made/group" ] && getent group pgqueue >/dev/null; then
	if command -v groupdel >/dev/null; then groupdel pgqueue; else delgroup pgqueue; fi
fi
rm -f "$made/user" "$made/group"
rmdir "$made" 2>/dev/null || true # not there, or the operator has put files into it
