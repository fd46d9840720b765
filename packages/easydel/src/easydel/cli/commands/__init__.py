"""One file for each command, with `run(words, command)`; `train` stands for all that train."""
