"""One QEMU machine: spec, accelerator probe, firmware, argv (pure), process, console. Knows nothing of pytest."""
