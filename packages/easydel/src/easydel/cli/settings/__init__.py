"""What a command is told: from a YAML file, `--set` and flags to one tree of settings, and from that to its config."""
