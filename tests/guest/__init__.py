"""Tests in a virtual machine: Debian's own kernel, real USB, udev, systemd and BlueZ."""
