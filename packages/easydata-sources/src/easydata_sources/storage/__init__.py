"""Where files lie and how they are opened: paths and addresses, compression, retries, faults of servers."""
