#!/bin/bash
# Boots this machine's Debian in a container, on a layer that leaves its files as they are, and runs try.sh there as a service of
# systemd. Its exit code is that of try.sh.
#
#   unshare --mount --pid --ipc --uts --net --cgroup --fork --kill-child boot.sh LAYER FOLDER
#
# LAYER is an empty folder for the layer. FOLDER has the package, try.sh and try.service, and gets the file log.
set -euo pipefail
layer=$1 folder=$2

mount --make-rprivate /
mount -t tmpfs -o size=2g tmpfs "$layer"
root=$layer/root
mkdir "$layer"/{upper,work,root}
mount -t overlay -o "lowerdir=/,upperdir=$layer/upper,workdir=$layer/work" overlay "$root"

mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
# The second hierarchy alone: in the first, systemd would change groups of the machine.
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs tmpfs "$root/dev"
for device in null zero full random urandom tty; do
	touch "$root/dev/$device"
	mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mkdir "$root/tmp/try"
mount --bind "$folder" "$root/tmp/try"
cp "$folder/try.service" "$root/etc/systemd/system/try.service"
# The services of the machine have no part in this.
rm -rf "$root"/etc/systemd/system/multi-user.target.wants "$root"/etc/systemd/system/sockets.target.wants

mkdir "$root/old"
cd "$root"
pivot_root . old
umount -l /old
rmdir /old
exec env -i container=pgqueue-test SYSTEMD_PROC_CMDLINE=systemd.unified_cgroup_hierarchy=1 PATH=/usr/sbin:/usr/bin:/sbin:/bin \
	/lib/systemd/systemd --system --unit=try.service
