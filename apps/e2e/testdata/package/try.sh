#!/bin/bash
# Runs on a Debian with systemd, without Go: installs the package, works a task by its services, and purges it without a trace.
set -euxo pipefail
if command -v go; then exit 1; fi
ip link set lo up

# The lists of dpkg, of the manual and of the users change with each package.
list_files() {
	find /etc /usr /var /opt /srv /home -xdev -not -path '/usr/local/*' -not -path '/var/lib/dpkg/*' -not -path '/var/cache/*' \
		-not -path '/var/log/*' -not -path '/var/lib/rpm/*' -not -path '/etc/*-' | sort
	getent passwd
	getent group
	systemctl list-unit-files --no-legend --state=enabled
}
mkdir -p /usr/share/zsh/site-functions # distributions with rpm have it

# wait_restart waits until the server has another process than before.
wait_restart() {
	for _ in $(seq 300); do
		case "$(systemctl show -P MainPID pgqueue-server)" in 0 | "$1") sleep 0.1 ;; *) return ;; esac
	done
	exit 1
}

# wait_active waits until units are active: scripts of a package do not wait for them.
wait_active() {
	for _ in $(seq 300); do
		if systemctl is-active "$@" >/dev/null; then return; fi
		sleep 0.1
	done
	systemctl status "$@"
	exit 1
}
list_files >/tmp/before

# In an image that is being built, systemd does not run.
unshare --mount bash -euxc 'mount -t tmpfs tmpfs /run/systemd; dpkg -i /tmp/try/pgqueue.deb; dpkg --purge pgqueue'
list_files >/tmp/after
diff /tmp/before /tmp/after

# A user of that name that was there before stays.
useradd --system --no-create-home --shell /usr/sbin/nologin pgqueue
unshare --mount bash -euxc 'mount -t tmpfs tmpfs /run/systemd; dpkg -i /tmp/try/pgqueue.deb; dpkg --purge pgqueue'
getent passwd pgqueue
getent group pgqueue
userdel pgqueue
list_files >/tmp/after
diff /tmp/before /tmp/after

dpkg -i /tmp/try/pgqueue.deb
systemd-analyze verify /usr/lib/systemd/system/pgqueue-server.service /usr/lib/systemd/system/pgqueue-worker.service
man -w pgqueue pgqueue-server pgqueue-worker pgqueue-create-task
bash -c '. /usr/share/bash-completion/completions/pgqueue'
test "$(stat -c '%U:%G %a' /etc/pgqueue/server.env)" = 'root:pgqueue 640'
if systemctl is-active pgqueue-server; then exit 1; fi # it has no database yet

# PostgreSQL lets each user of the machine in as the role of the same name.
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)
install -d -o postgres /run/pg
runuser -u postgres -- "$bin/initdb" -D /run/pg/data --auth=peer >/dev/null
runuser -u postgres -- "$bin/pg_ctl" -D /run/pg/data -o '-c listen_addresses= -k /run/pg' -l /run/pg/log -w start
runuser -u postgres -- createuser -h /run/pg pgqueue
runuser -u postgres -- createdb -h /run/pg -O pgqueue pgqueue
echo 'PGQUEUE_DATABASE_URL=postgres:///pgqueue?host=/run/pg' >>/etc/pgqueue/server.env
printf 'queues:\n  - queue: mail\n    exec: id -un\n' >/etc/pgqueue/worker.yaml

systemctl enable --now pgqueue-server pgqueue-worker
pgqueue create-queue mail
id=$(pgqueue create-task mail --payload '{"n":1}' --jq .id)
test "$(pgqueue await-task "$id" --wait 1m --jq .result.text)" = pgqueue
test "$(ps -o user= -p "$(systemctl show -P MainPID pgqueue-server)")" = pgqueue

# An upgrade keeps the settings and starts the services again.
before=$(systemctl show -P MainPID pgqueue-server)
dpkg -i /tmp/try/pgqueue.deb
wait_restart "$before"
wait_active pgqueue-server pgqueue-worker
grep -q PGQUEUE_DATABASE_URL=postgres /etc/pgqueue/server.env

# While PostgreSQL is down, an upgrade does not wait for the services, and they start when it is back.
runuser -u postgres -- "$bin/pg_ctl" -D /run/pg/data -m fast -w stop
SECONDS=0
dpkg -i /tmp/try/pgqueue.deb | tee /tmp/says
test "$SECONDS" -lt 15
grep 'start again in the background' /tmp/says
runuser -u postgres -- "$bin/pg_ctl" -D /run/pg/data -o '-c listen_addresses= -k /run/pg' -l /run/pg/log -w start
wait_active pgqueue-server pgqueue-worker

dpkg -r pgqueue
if systemctl is-active pgqueue-server; then exit 1; fi
test -e /etc/pgqueue/server.env
getent passwd pgqueue

# The package comes back with its settings, and its services run again.
dpkg -i /tmp/try/pgqueue.deb
wait_active pgqueue-server pgqueue-worker
test "$(pgqueue task "$id" --jq .status)" = released

dpkg --purge pgqueue
list_files >/tmp/after
diff /tmp/before /tmp/after

# The rpm has other arguments for the same scripts. Its database of packages is that of root, and knows no package of Debian.
rpm=(rpm --nodeps --force-debian --nosignature)
"${rpm[@]}" -i /tmp/try/pgqueue.rpm
test "$(stat -c '%U:%G %a' /etc/pgqueue /etc/pgqueue/server.env | xargs)" = 'root:pgqueue 750 root:pgqueue 640'
systemd-analyze verify /usr/lib/systemd/system/pgqueue-server.service /usr/lib/systemd/system/pgqueue-worker.service
runuser -u pgqueue -- pgqueue-worker --version
echo 'PGQUEUE_DATABASE_URL=postgres:///pgqueue?host=/run/pg' >>/etc/pgqueue/server.env
systemctl enable --now pgqueue-server
test "$(pgqueue task "$id" --jq .status)" = released
before=$(systemctl show -P MainPID pgqueue-server)
"${rpm[@]}" -U --replacepkgs /tmp/try/pgqueue.rpm
wait_restart "$before"
wait_active pgqueue-server
grep -q PGQUEUE_DATABASE_URL=postgres /etc/pgqueue/server.env
test "$(stat -c '%U:%G %a' /etc/pgqueue/server.env /etc/pgqueue/worker.env | xargs)" = 'root:pgqueue 640 root:pgqueue 640'
# Of an upgrade to a newer version, the scripts of the older one run last.
sh /tmp/try/preremove.sh 1
sh /tmp/try/postremove.sh 1
systemctl is-active pgqueue-server
systemctl is-enabled pgqueue-server
getent passwd pgqueue
"${rpm[@]}" -e pgqueue
if systemctl is-active pgqueue-server; then exit 1; fi
rm /etc/pgqueue/server.env.rpmsave # what was edited stays
rmdir /etc/pgqueue
list_files >/tmp/after
diff /tmp/before /tmp/after
echo purged without a trace
