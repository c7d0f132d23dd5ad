#!/bin/busybox sh
# First process of the guest: the host's root, read-only over 9p, with a tmpfs above it; then systemd.
# The project and its virtual environment appear at /srv/brainforge-edge and /opt/brainforge, where an
# installed box has them and where the service's user can read them wherever they lie on the host; so
# does a Python that is not Debian's own, at /srv/python.
B=/bin/busybox
. /facts
$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
$B mount -t devtmpfs dev /dev
for module in /lib/*.ko; do $B insmod "$module" || echo "guest: no $module"; done
over9p=trans=virtio,version=9p2000.L,msize=262144,ro,cache=loose
$B mount -t 9p -o $over9p host0 /lower || echo "guest: the host's root was not mounted"
$B mount -t tmpfs -o size=75% tmpfs /rw
$B mkdir /rw/upper /rw/work
$B mount -t overlay -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work overlay /new

# What a running host keeps at these places is not the guest's.
: >/new/etc/fstab
: >/new/etc/machine-id
echo bedside >/new/etc/hostname
$B rm -rf /new/var/lib/brainforge /new/etc/brainforge
$B rm -f /new/.dockerenv # systemd would take the guest for a container and ignore the command line
$B mkdir -p /new/lib/modules /new/out /new/srv/brainforge-edge /new/opt/brainforge
$B ln -sfn "$MODULES" "/new/lib/modules/$RELEASE"
$B mount --bind "/new$PROJECT" /new/srv/brainforge-edge
$B mount --bind "/new$VENV" /new/opt/brainforge
for folder in /tmp /var/tmp /var/log; do $B mount -t tmpfs -o mode=1777 tmpfs "/new$folder"; done
$B mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 out /new/out
if [ "$BASE" != /usr ]; then
    $B mkdir -p /new/srv/python
    $B mount --bind "/new$BASE" /new/srv/python
    $B sed -i "s|^home = .*|home = /srv/python/bin|" /new/opt/brainforge/pyvenv.cfg
    $B ln -sfn "/srv/python/bin/$PYTHON" /new/opt/brainforge/bin/python
fi
$B sed -i "1s|^#!.*|#!/opt/brainforge/bin/python|" /new/opt/brainforge/bin/brainforge-edge

$B cat >/new/etc/systemd/system/guest-agent.service <<'UNIT'
[Unit]
Description=Runs the scripts that tests ask for
Requires=basic.target
Wants=dbus.service
After=basic.target dbus.service
DefaultDependencies=no
[Service]
WorkingDirectory=/srv/brainforge-edge
Environment=PYTHONPATH=/srv/brainforge-edge PYTHONDONTWRITEBYTECODE=1
ExecStart=/opt/brainforge/bin/python -m tests.guest.inside.agent /dev/ttyS1
StandardOutput=journal+console
StandardError=journal+console
UNIT
$B umount /proc /sys
$B mount --move /dev /new/dev
exec $B switch_root /new /lib/systemd/systemd
