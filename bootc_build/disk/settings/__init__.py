"""What a disk configuration sets on the machine: accounts, files, units, name, language, time.

Everything is a file that is added to the machine's own /etc or /var, in the form that systemd acts on at boot
(sysusers.d, tmpfiles.d, drop-ins), so that the image's files stay those of the image and upgrades reach them.

``accounts`` and ``system`` decide (pure), ``deployment`` writes, ``apply`` does it all in order.
"""
